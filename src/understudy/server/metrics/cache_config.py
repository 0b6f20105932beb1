"""The labels of `vllm:cache_config_info`: every field of vLLM's CacheConfig as the API server sees it once engines run.

(vllm/config/cache.py and vllm/v1/core/kv_cache_utils.py, 0.33.0)
"""

from collections.abc import Mapping

from understudy.engine import EngineConfig

_FOR_OTHER_MODELS: Mapping[str, object] = {
    "is_attention_free": False,
    "sliding_window": None,
    "kv_cache_dtype_skip_layers": [],
    "mamba_page_size_padded": None,
    "skip_page_size_padded": None,
    "mamba_block_size": None,
    "mamba_cache_dtype": "auto",
    "mamba_ssm_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "enable_mamba_shared_prefix_checkpoint": False,
    "prefix_cache_retention_interval": 0,
    "replayssm_buffer_len": 16,
    "use_replayssm": False,
    "use_kda_recoverssm": False,
    "kv_sharing_fast_prefill": False,
    "swa_bounded_replay": True,
}
"""Fields that keep their defaults for a text model with full attention."""

_WITHOUT_OFFLOADING: Mapping[str, object] = {
    "num_cpu_blocks": None,
    "simple_cpu_offload_num_blocks": None,
    "kv_offloading_size": None,
    "kv_offloading_backend": "native",
}

_IN_THE_ENGINE_ONLY: Mapping[str, object] = {
    "kv_cache_layout": None,
    "hash_block_size": None,
    "cache_hit_alignment_tokens": None,
}
"""Fields that vLLM resolves in the engine's process, whose API server never hears of them."""


def cache_config_labels(
    config: EngineConfig,
    *,
    gpu_memory_utilization: float = 0.92,
    cache_dtype: str = "auto",
    kv_cache_memory_bytes: int | None = None,
    num_gpu_blocks_override: int | None = None,
    user_specified_block_size: bool = False,
    num_engines: int = 1,
) -> Mapping[str, str]:
    """Return the labels but `engine`, in the order of vLLM's fields; the keywords are vLLM's flags.

    `num_gpu_blocks` is the sum over all engines, as in vLLM; `kv_cache_size_tokens` and `kv_cache_max_concurrency`
    (requests of max_model_len tokens that fit) are those of one engine, and count the null block.
    """
    blocks_per_request = -(-config.max_model_len // config.block_size)
    max_concurrency = config.num_gpu_blocks / blocks_per_request
    fields: dict[str, object] = {
        "block_size": config.block_size,
        "user_specified_block_size": user_specified_block_size,
        "prefix_match_unit": None,
        "gpu_memory_utilization": float(gpu_memory_utilization),
        "cache_dtype": cache_dtype,
        "num_gpu_blocks_override": num_gpu_blocks_override,
        "enable_prefix_caching": config.enable_prefix_caching,
        "prefix_caching_hash_algo": config.prefix_caching_hash_algo,
        "num_gpu_blocks": config.num_gpu_blocks * num_engines,
        "effective_attention_block_size": config.block_size,
        "kv_cache_size_tokens": int(max_concurrency * config.max_model_len),
        "kv_cache_max_concurrency": max_concurrency,
        "kv_cache_memory_bytes": kv_cache_memory_bytes,
        "_block_size_resolved": True,
        **_FOR_OTHER_MODELS,
        **_WITHOUT_OFFLOADING,
        **_IN_THE_ENGINE_ONLY,
    }
    return {name: str(value) for name, value in fields.items()}
