"""Which engine flags vLLM chooses on which GPU: run by vLLM's Python, prints `evidence/defaults.json`.

Knows vLLM and nothing of understudy but the form of its catalogue, whose folder of GPUs is the argument. `vllm serve` turns
its flags into a configuration by `EngineArgs.create_engine_config`; that is called here, on a platform that says
of itself what a GPU of that name, memory and compute capability would say.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import vllm
import vllm.platforms
from vllm.platforms.interface import DeviceCapability, Platform, PlatformEnum

GIB = 2**30
PERFORMANCE_MODES = ["balanced", "interactivity", "throughput"]
CASES_A_GPU = 40
MODE_CASES_A_GPU = 20
SMALL_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2**20,
    "vocab_size": 32000,
    "torch_dtype": "float16",
}
"""vLLM wants to know a model. Nothing recorded here depends on which."""

BORDERLINE_GPUS = [
    ("NVIDIA Unheard-of", 160 * GIB, "10.0"),
    ("NVIDIA Unheard-of", 160 * GIB - 1, "10.0"),
    ("NVIDIA Unheard-of", 70 * GIB, "9.0"),
    ("NVIDIA Unheard-of", 70 * GIB - 1, "9.0"),
    ("nvidia a100 of another kind", 70 * GIB, "8.0"),
    ("NVIDIA A100 of the future", 160 * GIB, "8.0"),
    ("NVIDIA GB10", 119 * GIB, "12.1"),
    ("NVIDIA GB10 of the future", 160 * GIB, "12.1"),
]


class NamedGpu(Platform):  # type: ignore[misc]  # types are checked where vLLM is not installed
    """A platform that claims to be a CUDA GPU."""

    _enum = PlatformEnum.CUDA
    device_name = "cuda"
    device_type = "cuda"
    dispatch_key = "CUDA"
    name = ""
    memory_bytes = 0
    capability = DeviceCapability(9, 0)

    @classmethod
    def get_device_name(cls, *_which: int, **_named: int) -> str:
        """Return the name of every GPU here."""
        return cls.name

    @classmethod
    def get_device_total_memory(cls, *_which: int, **_named: int) -> int:
        """Return the bytes of every GPU here."""
        return cls.memory_bytes

    @classmethod
    def get_device_capability(cls, *_which: int, **_named: int) -> DeviceCapability:
        """Return the compute capability of every GPU here."""
        return cls.capability

    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        """Leave the configuration as it is; real GPUs choose kernels here."""

    @classmethod
    def inference_mode(cls) -> Any:
        """Return what computes without gradients."""
        return torch.no_grad()

    @classmethod
    def is_pin_memory_available(cls) -> bool:
        """Return that memory cannot be pinned."""
        return False

    @classmethod
    def support_hybrid_kv_cache(cls) -> bool:
        """Return that layers of several kinds may share blocks."""
        return True

    @classmethod
    def check_if_supports_dtype(cls, dtype: Any) -> None:
        """Support all."""


vllm.platforms.current_platform = NamedGpu()  # before anything asks which platform this is
from vllm.engine.arg_utils import EngineArgs  # noqa: E402 - reads the platform when it is imported
from vllm.usage.usage_lib import UsageContext  # noqa: E402


def _config(model_folder: str, flags: dict[str, Any]) -> Any:
    arguments = EngineArgs(
        model=model_folder, skip_tokenizer_init=True, distributed_executor_backend="uni", **flags
    )
    return arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)


def _flags_of(config: Any) -> dict[str, Any]:
    """Return what the flags are when the user gives none."""
    scheduler, cache, parallel = config.scheduler_config, config.cache_config, config.parallel_config
    return {
        "block_size": cache.block_size,
        "num_gpu_blocks_override": cache.num_gpu_blocks_override,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "kv_cache_memory_bytes": cache.kv_cache_memory_bytes,
        "kv_cache_dtype": cache.cache_dtype,
        "enable_prefix_caching": cache.enable_prefix_caching,
        "prefix_caching_hash_algo": cache.prefix_caching_hash_algo,
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "max_num_scheduled_tokens": scheduler.max_num_scheduled_tokens,
        "max_num_active_seqs": scheduler.max_num_active_seqs,
        "enable_chunked_prefill": scheduler.enable_chunked_prefill,
        "scheduling_policy": scheduler.policy,
        "async_scheduling": scheduler.async_scheduling,
        "watermark": scheduler.watermark,
        "scheduler_reserve_full_isl": scheduler.scheduler_reserve_full_isl,
        "long_prefill_token_threshold": scheduler.long_prefill_token_threshold,
        "long_prefill_token_threshold_adaptive": scheduler.long_prefill_token_threshold_adaptive,
        "prefill_schedule_interval": scheduler.prefill_schedule_interval,
    }


def _limits(model_folder: str, flags: dict[str, Any]) -> list[int] | None:
    """Return the tokens and sequences of a step, or None where vLLM refuses to start."""
    try:
        scheduler = _config(model_folder, flags).scheduler_config
    except ValueError:
        return None
    return [scheduler.max_num_batched_tokens, scheduler.max_num_seqs]


def _some_flags(rng: random.Random) -> dict[str, Any]:
    flags: dict[str, Any] = {
        "max_model_len": rng.choice([1, 7, 100, 2048, 4096, 8192, 32_768, 131_072, 2**20])
    }
    if rng.random() < 0.5:
        flags["enable_chunked_prefill"] = rng.random() < 0.5
    if rng.random() < 0.5:
        flags["max_num_batched_tokens"] = rng.choice([1, 8, 255, 512, 2048, 8192, 16_384, 50_000, 2**20])
    if rng.random() < 0.5:
        flags["max_num_seqs"] = rng.choice([1, 2, 64, 256, 257, 1024, 4096])
    return flags


def _gpu(model_folder: str, name: str, memory_bytes: int, capability: str) -> dict[str, Any]:
    NamedGpu.name, NamedGpu.memory_bytes = name, memory_bytes
    NamedGpu.capability = DeviceCapability(*map(int, capability.split(".")))
    rng = random.Random(f"{name} {memory_bytes}")
    cases = [{"max_model_len": 4096}, *(_some_flags(rng) for _ in range(CASES_A_GPU))]
    cases += [{"max_model_len": 4096, "performance_mode": mode} for mode in PERFORMANCE_MODES]
    cases += [
        _some_flags(rng) | {"performance_mode": rng.choice(PERFORMANCE_MODES)}
        for _ in range(MODE_CASES_A_GPU)
    ]
    return {
        "vllm_device_name": name,
        "memory_bytes": memory_bytes,
        "compute_capability": capability,
        "limits": [{"flags": flags, "limits": _limits(model_folder, flags)} for flags in cases],
    }


def main(gpu_folder: str) -> None:
    """Print the default flags, and the limits of a step on each GPU for many choices of the other flags."""
    entries = [json.loads(path.read_text()) for path in sorted(Path(gpu_folder).glob("*.json"))]
    gpus = [
        (entry["vllm_device_name"], entry["memory_bytes"], entry["compute_capability"]) for entry in entries
    ]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(SMALL_LLAMA))
        recording = {
            "vllm": vllm.__version__,
            "flags": _flags_of(_config(folder, {})),
            "gpus": [_gpu(folder, *gpu) for gpu in [*gpus, *BORDERLINE_GPUS]],
        }
    json.dump(recording, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main(sys.argv[1])
