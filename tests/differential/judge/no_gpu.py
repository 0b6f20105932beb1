"""A platform and an executor for vLLM, so that the real `vllm serve` runs with no GPU and no weights.

Loaded by vLLM as a platform plug-in, see `serve.sh`. Everything but the model is vLLM's own: its API server, tokenizer,
scheduler, KV-cache manager, events and metrics. The executor waits `STEP_SECONDS` a step, and then "samples" token
280 + (tokens computed after the step) % 300, or the lowest token that a request's grammar allows.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from vllm.config import CompilationMode, CUDAGraphMode, VllmConfig
from vllm.platforms.interface import DeviceCapability, Platform, PlatformEnum
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, LogprobsTensors, ModelRunnerOutput

STEP_SECONDS = 0.005
KV_CACHE_BYTES = 20 * 2**30
GPU_BYTES = 80 * 2**30
FIRST_SAMPLED = 280
NUM_SAMPLED = 300
FIRST_ALTERNATIVE = 40
"""Logarithms of probabilities are told for the sampled token and for as many from here on as were asked for."""


def register() -> str:
    """Return the name of the platform, for the plug-in's entry point."""
    return "no_gpu.NoGpuPlatform"


class NoGpuPlatform(Platform):  # type: ignore[misc]  # vLLM is not installed where types are checked
    """An 80 GB GPU of which only the size is real."""

    _enum = PlatformEnum.OOT
    device_name = "cpu"
    device_type = "cpu"
    dispatch_key = "CPU"
    supported_quantization: tuple[str, ...] = ()

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        """Return the name of a GPU whose size this is."""
        del device_id
        return "NVIDIA H100 80GB HBM3"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """Return the memory in bytes."""
        del device_id
        return GPU_BYTES

    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
        """Return that of an H100."""
        del device_id
        return DeviceCapability(9, 0)

    @classmethod
    def is_device_capability(cls, capability: tuple[int, int] | int, device_id: int = 0) -> bool:
        """Return whether this is that of an H100."""
        del device_id
        return tuple(capability) == (9, 0) if isinstance(capability, tuple) else capability == 90

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        """Choose a worker that is never made, and no compilation."""
        vllm_config.parallel_config.worker_cls = "vllm.v1.worker.worker_base.WorkerBase"
        vllm_config.compilation_config.mode = CompilationMode.NONE
        vllm_config.compilation_config.cudagraph_mode = CUDAGraphMode.NONE

    @classmethod
    def inference_mode(cls) -> Any:
        """Return a context without gradients."""
        return torch.no_grad()

    @classmethod
    def is_pin_memory_available(cls) -> bool:
        """Return that it is not."""
        return False

    @classmethod
    def support_hybrid_kv_cache(cls) -> bool:
        """Return that it does."""
        return True

    @classmethod
    def check_if_supports_dtype(cls, dtype: Any) -> None:
        """Accept every type."""
        del dtype

    @classmethod
    def get_attn_backend_cls(cls, *_args: Any, **_kwargs: Any) -> str:
        """Return no backend of attention."""
        return ""


class NoGpuExecutor(Executor):  # type: ignore[misc]  # vLLM is not installed where types are checked
    """Waits where a GPU would compute, and samples by a rule."""

    def _init_executor(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._params: dict[str, SamplingParams] = {}
        self._prompts: dict[str, list[int]] = {}
        self._prefill_tokens: dict[str, int] = {}
        self._pending: SchedulerOutput | None = None

    def collective_rpc(self, method: Any, *_args: Any, **_kwargs: Any) -> list[Any]:
        """Answer what vLLM asks its workers when it starts."""
        answers: dict[Any, Any] = {
            "determine_available_memory": KV_CACHE_BYTES,
            "get_supported_kv_cache_layouts": ["LBNHC"],
            "get_supported_tasks": ("generate",),
            "list_loras": set(),
            "supports_draft_weight_updates": False,
        }
        if method == "compile_or_warm_up_model":
            return []
        if method == "get_kv_cache_spec":
            return [self._kv_cache_spec()]
        return [answers.get(method)]

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:  # noqa: FBT001, FBT002  # vLLM calls it so
        """Note the step; it is sampled by `sample_tokens`."""
        if scheduler_output.total_num_scheduled_tokens == 0:
            return _done(EMPTY_MODEL_RUNNER_OUTPUT) if non_block else EMPTY_MODEL_RUNNER_OUTPUT
        self._pending = scheduler_output
        return _done(None) if non_block else None

    def sample_tokens(self, grammar_output: GrammarOutput | None, non_block: bool = False) -> Any:  # noqa: FBT001, FBT002  # vLLM calls it so
        """Return the tokens of the noted step, after the time that a step takes."""
        assert self._pending is not None
        output = self._output(self._pending, _lowest_allowed(grammar_output))
        future = self._pool.submit(_after_a_step, output)
        return future if non_block else future.result()

    def check_health(self) -> None:
        """Be healthy."""

    def shutdown(self) -> None:
        """Stop waiting for steps."""
        self._pool.shutdown(wait=False)

    @classmethod
    def supports_async_scheduling(cls) -> bool:
        """Return that it does."""
        return True

    def _kv_cache_spec(self) -> dict[str, FullAttentionSpec]:
        model, parallel = self.vllm_config.model_config, self.parallel_config
        spec = FullAttentionSpec(
            block_size=self.cache_config.block_size,
            num_kv_heads=model.get_num_kv_heads(parallel),
            head_size=model.get_head_size(),
            dtype=torch.bfloat16,
        )
        return {f"layer{number}": spec for number in range(model.get_num_layers(parallel))}

    def _computed_before(self, step: SchedulerOutput) -> dict[str, int]:
        computed = {}
        for request in step.scheduled_new_reqs:
            prefill = request.prefill_token_ids
            self._prompts[request.req_id] = request.prompt_token_ids or []
            self._prefill_tokens[request.req_id] = len(prefill or self._prompts[request.req_id])
            self._params[request.req_id] = request.sampling_params
            computed[request.req_id] = request.num_computed_tokens
        cached = step.scheduled_cached_reqs
        for request_id, tokens in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            computed[request_id] = tokens
            if request_id in cached.resumed_req_ids and request_id in cached.all_token_ids:
                self._prefill_tokens[request_id] = len(cached.all_token_ids[request_id])
        return computed

    def _output(self, step: SchedulerOutput, allowed: dict[str, int]) -> ModelRunnerOutput:
        computed = self._computed_before(step)
        ids = list(step.num_scheduled_tokens)
        sampled: list[list[int]] = []
        prompt_logprobs = {}
        for request_id in ids:
            end = computed[request_id] + step.num_scheduled_tokens[request_id]
            prefill = self._prefill_tokens[request_id]
            token = allowed.get(request_id, FIRST_SAMPLED + end % NUM_SAMPLED)
            sampled.append([token] if end >= prefill else [])
            asked = self._params[request_id].prompt_logprobs
            if asked is not None and end == prefill:
                prompt_logprobs[request_id] = _logprobs(self._prompts[request_id][1:], asked)
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(ids)},
            sampled_token_ids=sampled,
            logprobs=self._sampled_logprobs(ids, sampled),
            prompt_logprobs_dict=prompt_logprobs,
            pooler_output=[],
        )

    def _sampled_logprobs(self, ids: list[str], sampled: list[list[int]]) -> Any:
        asked = [self._params[request_id].num_logprobs for request_id in ids]
        most = max((number for number in asked if number is not None), default=None)
        if most is None:
            return None
        return _logprobs([tokens[0] if tokens else 0 for tokens in sampled], most).tolists()


def _logprobs(tokens: list[int], alternatives: int) -> LogprobsTensors:
    """Return for each token itself first, and then the likeliest ones: the token and others, `alternatives` in all."""
    others = range(FIRST_ALTERNATIVE, FIRST_ALTERNATIVE + max(alternatives - 1, 0))
    columns = [0, *range(alternatives)]
    rows = [[token, *([token, *others][:alternatives])] for token in tokens]
    return LogprobsTensors(
        torch.tensor(rows, dtype=torch.int32).reshape(len(tokens), alternatives + 1),
        torch.tensor([[-0.5 - column for column in columns]] * len(tokens)).reshape(
            len(tokens), alternatives + 1
        ),
        torch.ones(len(tokens), dtype=torch.int32),
    )


def _lowest_allowed(grammar: GrammarOutput | None) -> dict[str, int]:
    if grammar is None:
        return {}
    allowed = {}
    for request_id, words in zip(grammar.structured_output_request_ids, grammar.grammar_bitmask, strict=True):
        first = next(index for index, word in enumerate(words.tolist()) if word)
        bits = int(words[first]) & 0xFFFFFFFF
        allowed[request_id] = 32 * first + (bits & -bits).bit_length() - 1
    return allowed


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _after_a_step(output: ModelRunnerOutput) -> ModelRunnerOutput:
    time.sleep(STEP_SECONDS)
    return output
