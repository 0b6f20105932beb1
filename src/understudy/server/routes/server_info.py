"""The route of development mode that shows the configuration, under vLLM's keys and without secrets.

(vllm/entrypoints/serve/dev/server_info/api_router.py and vllm/config/vllm.py, 0.33.0)
"""

import platform
from collections.abc import Mapping
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from understudy import VLLM_VERSION
from understudy.engine import EngineConfig
from understudy.server.context import ServerContext, context_of
from understudy.server.routes.answers import get, json_answer
from understudy.server.routes.checks import read_query
from understudy.server.routes.operator import world_size
from understudy.server.secret_names import is_secret

_ARGUMENTS_OF_PARTS: Mapping[str, str] = {
    "model_config": "model runner convert tokenizer tokenizer_mode trust_remote_code dtype seed hf_config_path revision"
    " code_revision tokenizer_revision max_model_len quantization enforce_eager max_logprobs logprobs_mode"
    " disable_sliding_window skip_tokenizer_init enable_prompt_embeds served_model_name config_format hf_overrides"
    " generation_config override_generation_config enable_sleep_mode sleep_mode_backend model_impl logits_processors"
    " renderer_num_workers",
    "cache_config": "block_size gpu_memory_utilization num_gpu_blocks_override enable_prefix_caching"
    " prefix_caching_hash_algo kv_cache_memory_bytes kv_offloading_size kv_offloading_backend",
    "parallel_config": "pipeline_parallel_size tensor_parallel_size prefill_context_parallel_size data_parallel_size"
    " data_parallel_size_local data_parallel_rank data_parallel_rpc_port data_parallel_backend"
    " data_parallel_external_lb data_parallel_hybrid_lb enable_expert_parallel enable_eplb enable_elastic_ep"
    " disable_custom_all_reduce distributed_executor_backend worker_cls nnodes node_rank"
    " decode_context_parallel_size",
    "scheduler_config": "max_num_batched_tokens max_num_scheduled_tokens max_num_seqs max_num_active_seqs"
    " long_prefill_token_threshold long_prefill_token_threshold_adaptive max_num_queued_reqs max_num_queued_tokens"
    " enable_chunked_prefill scheduler_cls disable_hybrid_kv_cache_manager scheduler_reserve_full_isl watermark"
    " prefill_schedule_interval async_scheduling stream_interval",
    "load_config": "load_format download_dir model_loader_extra_config ignore_patterns use_tqdm_on_load",
    "structured_outputs_config": "reasoning_parser",
    "observability_config": "show_hidden_metrics_for_version otlp_traces_endpoint collect_detailed_traces"
    " kv_cache_metrics kv_cache_metrics_sample custom_histogram_buckets cudagraph_metrics enable_mfu_metrics",
}
"""Which flags make up which part of vLLM's configuration."""

_LORA_ARGUMENTS = (
    "max_lora_rank max_loras fully_sharded_loras max_cpu_loras lora_dtype default_mm_loras"
    " enable_tower_connector_lora specialize_active_lora"
)
_WHOLE_ARGUMENTS = (
    "speculative_config kv_transfer_config kv_events_config ec_transfer_config optimization_level performance_mode"
    " weight_transfer_config shutdown_timeout"
)
_TEXT_ARGUMENTS = (
    "model speculative_config tokenizer skip_tokenizer_init tokenizer_mode revision tokenizer_revision"
    " trust_remote_code dtype max_seq_len download_dir load_format tensor_parallel_size pipeline_parallel_size"
    " data_parallel_size decode_context_parallel_size disable_custom_all_reduce quantization enforce_eager"
    " kv_cache_dtype seed served_model_name enable_prefix_caching enable_chunked_prefill"
)
"""What vLLM's one-line form shows, in its order."""

_QUOTED_IN_TEXT = {"model", "tokenizer"}


def config_document(context: ServerContext) -> dict[str, Any]:
    """Return the configuration as vLLM's JSON form has it, as far as this server knows it."""
    values = _values(context)
    document: dict[str, Any] = {part: _chosen(values, names) for part, names in _ARGUMENTS_OF_PARTS.items()}
    engine = context.engine_config
    document["cache_config"] |= {
        "cache_dtype": values.get("kv_cache_dtype", "auto"),
        "num_gpu_blocks": engine.num_gpu_blocks,
    }
    document["parallel_config"]["world_size"] = world_size(values)
    document["scheduler_config"]["policy"] = engine.scheduling_policy
    document["lora_config"] = _chosen(values, _LORA_ARGUMENTS) if values.get("enable_lora") else None
    return document | _chosen(values, _WHOLE_ARGUMENTS)


def config_text(context: ServerContext) -> str:
    """Return the configuration in one line, as vLLM prints it when it starts."""
    values = _values(context) | {"max_seq_len": context.engine_config.max_model_len}
    return ", ".join(
        f"{name}={values[name]!r}" if name in _QUOTED_IN_TEXT else f"{name}={values[name]}"
        for name in _TEXT_ARGUMENTS.split()
        if name in values
    )


def environment_document(environment: Mapping[str, str]) -> dict[str, str]:
    """Return vLLM's variables that are set, those that might be secret left out."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith("VLLM_") and not is_secret(name)
    }


def system_document() -> dict[str, str]:
    """Return what of the machine vLLM tells and this server knows."""
    return {
        "os": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "python_version": platform.python_version(),
        "python_platform": platform.platform(),
        "vllm_version": VLLM_VERSION,
    }


def _values(context: ServerContext) -> dict[str, Any]:
    """Return the values of the flags, with what the engine made of them, and without secrets."""
    engine = context.engine_config
    values = dict(context.arguments)
    values |= {name: getattr(engine, name) for name in EngineConfig.__dataclass_fields__}
    values["served_model_name"] = context.models.names[0]
    return {name: _without_secrets(value) for name, value in values.items() if not is_secret(name)}


def _chosen(values: Mapping[str, Any], names: str) -> dict[str, Any]:
    return {name: values[name] for name in names.split() if name in values}


def _without_secrets(value: object) -> object:
    """Return a value as JSON holds it."""
    if isinstance(value, Mapping):
        return {
            str(name): _without_secrets(inner) for name, inner in value.items() if not is_secret(str(name))
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without_secrets(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


class _InfoQuery(BaseModel):
    config_format: Literal["text", "json"] = "text"


async def server_info(request: web.Request) -> web.Response:
    """Show the configuration, vLLM's variables and the machine."""
    query = read_query(request, _InfoQuery)
    context = context_of(request)
    return json_answer(
        {
            "vllm_config": config_text(context)
            if query.config_format == "text"
            else config_document(context),
            "vllm_env": environment_document(context.environment),
            "system_env": system_document(),
        }
    )


ROUTES: tuple[web.RouteDef, ...] = (get("/server_info", server_info),)
"""They exist where `operator.is_served` says so."""
