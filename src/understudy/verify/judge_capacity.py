"""How large vLLM's blocks are and how many a memory holds: run by vLLM's Python, prints `evidence/capacity.json`.

Knows vLLM and nothing of understudy but the form of its catalogue, whose folder of models is the argument. vLLM's ModelConfig
reads each model as a config.json, its KVCacheSpec classes give the layers of every pipeline stage, and
`get_kv_cache_configs`, which `vllm serve` calls at start-up, divides the memory. Models with sliding windows are left
out: which blocks their layers share depends on the GPU's kernels.
"""

import json
import logging
import random
import re
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import vllm
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, ParallelConfig, SchedulerConfig, VllmConfig
from vllm.utils.torch_utils import kv_cache_dtype_str_to_dtype
from vllm.v1.core.kv_cache_planning import get_global_kv_cache_groups, get_kv_cache_configs
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheSpec,
    MLAAttentionSpec,
    get_kv_quant_mode,
)

ARCHITECTURES = {
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
CACHE_DTYPES = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc")
TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)
PIPELINE_PARALLEL_SIZES = (1, 2, 3)
BLOCK_SIZES = (8, 16, 32, 64, 128)
CONTEXT_CASES = 400
LAYOUT = "LBNHC"
"""What vLLM asks its workers for; each layer's blocks lie together."""


class Shape:
    """A model under vLLM, with everything set that a memory is divided by."""

    def __init__(self, config: dict[str, Any], folder: str) -> None:
        Path(folder, "config.json").write_text(json.dumps(config))
        model_config = ModelConfig(
            model=folder,
            skip_tokenizer_init=True,
            dtype=config.get("torch_dtype", "bfloat16"),
            max_model_len=8,
        )
        self.vllm_config = VllmConfig(
            model_config=model_config,
            cache_config=CacheConfig(block_size=16),
            device_config=DeviceConfig("cpu"),
            scheduler_config=SchedulerConfig(
                max_model_len=8, max_num_seqs=8, max_num_batched_tokens=64, is_encoder_decoder=False
            ),
        )
        self.vllm_config.cache_config.kv_cache_layout = LAYOUT

    def specs(
        self, parallel: ParallelConfig, block_size: int, cache_dtype: str
    ) -> list[dict[str, KVCacheSpec]]:
        """Return the layers of each pipeline stage."""
        model_config = self.vllm_config.model_config
        common = {
            "block_size": block_size,
            "num_kv_heads": model_config.get_num_kv_heads(parallel),
            "head_size": model_config.get_head_size(),
            "dtype": kv_cache_dtype_str_to_dtype(cache_dtype, model_config),
            "kv_quant_mode": get_kv_quant_mode(cache_dtype),
        }
        layer: KVCacheSpec = (
            MLAAttentionSpec(**common, cache_dtype_str=cache_dtype)
            if model_config.use_mla
            else FullAttentionSpec(**common)
        )
        stages = []
        for stage in range(parallel.pipeline_parallel_size):
            parallel.rank = stage * parallel.tensor_parallel_size
            start, end = model_config.get_layers_start_end_indices(parallel)
            stages.append({f"layers.{index}": layer for index in range(start, end)})
        return stages

    def num_blocks(self, stages: list[dict[str, KVCacheSpec]], available_bytes: int) -> int:
        """Return the blocks that all stages have when each has so much memory."""
        groups = get_global_kv_cache_groups(self.vllm_config, [dict(stage) for stage in stages])
        configs = get_kv_cache_configs(self.vllm_config, stages, [available_bytes] * len(stages), groups)
        numbers: set[int] = {config.num_blocks for config in configs}
        assert len(numbers) == 1
        return numbers.pop()

    def block_bytes(self, stages: list[dict[str, KVCacheSpec]]) -> int:
        """Return the bytes of a block on the GPUs that spend most on it."""
        groups = get_global_kv_cache_groups(self.vllm_config, [dict(stage) for stage in stages])
        configs = get_kv_cache_configs(self.vllm_config, stages, [2**40] * len(stages), groups)
        sizes: set[int] = {
            tensor.size // config.num_blocks for config in configs for tensor in config.kv_cache_tensors
        }
        return max(sizes)


def _case(shape: Shape, rng: random.Random, tensor_parallel_size: int, cache_dtype: str) -> dict[str, Any]:
    pipeline, block_size = rng.choice(PIPELINE_PARALLEL_SIZES), rng.choice(BLOCK_SIZES)
    parallel = ParallelConfig(
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline,
        distributed_executor_backend="mp",
    )
    stages = shape.specs(parallel, block_size, cache_dtype)
    block_bytes = shape.block_bytes(stages)
    blocks = rng.randrange(3, 100_000)
    memories = [blocks * block_bytes, blocks * block_bytes - 1, rng.randrange(4 * block_bytes, 200 * 2**30)]
    return {
        "tensor_parallel_size": tensor_parallel_size,
        "pipeline_parallel_size": pipeline,
        "block_size": block_size,
        "kv_cache_dtype": cache_dtype,
        "page_bytes": next(iter(stages[0].values())).page_size_bytes,
        "block_bytes": block_bytes,
        "num_gpu_blocks": [[memory, shape.num_blocks(stages, memory)] for memory in memories],
    }


def _has_sliding_windows(path: Path) -> bool:
    """Whether layers of several kinds share blocks, which depends on the kernels of the GPU."""
    return "sliding_attention" in json.loads(path.read_text()).get("layer_types", ())


def _model(path: Path, folder: str) -> dict[str, Any]:
    config = json.loads(path.read_text())
    config.pop("quantization_config", None)  # of the weights, not of the cache
    config["architectures"] = [ARCHITECTURES[config["model_type"]]]
    shape, rng = Shape(config, folder), random.Random(path.stem)
    return {
        "model": path.stem,
        "cases": [
            _case(shape, rng, tensor_parallel_size, cache_dtype)
            for tensor_parallel_size, cache_dtype in product(TENSOR_PARALLEL_SIZES, CACHE_DTYPES)
        ],
    }


def _context_case(shape: Shape, rng: random.Random) -> dict[str, Any]:
    """Ask vLLM whether one request of the longest length fits, and if not which would."""
    block_size, num_blocks = rng.choice(BLOCK_SIZES), rng.choice([1, 2, 3, 10, 100, 1000])
    limit = (num_blocks - 1) * block_size
    max_model_len = max(1, rng.choice([limit - 1, limit, limit + 1, rng.randrange(1, 2 * limit + 2)]))
    stages = shape.specs(ParallelConfig(), block_size, "auto")
    block_bytes = sum(spec.page_size_bytes for spec in stages[0].values())
    model_config = shape.vllm_config.model_config
    model_config.max_model_len = max_model_len
    fits, longest = True, None
    try:
        shape.num_blocks(stages, num_blocks * block_bytes)
    except ValueError as error:
        fits = False
        estimate = re.search(r"estimated maximum model length is (\d+)", str(error))
        longest = int(estimate[1]) if estimate else None
    model_config.max_model_len = 8
    return {
        "block_size": block_size,
        "num_gpu_blocks": num_blocks,
        "max_model_len": max_model_len,
        "fits": fits,
        "longest": longest,
    }


def main(model_folder: str) -> None:
    """Print every model's cases, and the contexts that vLLM refuses at start-up."""
    logging.disable(logging.WARNING)
    paths = [path for path in sorted(Path(model_folder).glob("*.json")) if not _has_sliding_windows(path)]
    with tempfile.TemporaryDirectory() as folder:
        models = [_model(path, folder) for path in paths]
        small = json.loads(Path(model_folder, "llama-2-7b.json").read_text())
        shape = Shape({**small, "architectures": ["LlamaForCausalLM"]}, folder)
        rng = random.Random(0)
        contexts = [_context_case(shape, rng) for _ in range(CONTEXT_CASES)]
    recording = {"vllm": vllm.__version__, "models": models, "contexts": contexts}
    json.dump(recording, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main(sys.argv[1])
