"""The `vllm:` families of vLLM 0.33 for a text model, in the order of its page: names, help texts, labels, buckets.

(vllm/v1/metrics/loggers.py and perf.py, 0.33.0)
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class VllmFamily:
    """A family with one series for each engine, and for each of `label_values` if it has such a label.

    `buckets` names the bucket family of a histogram. Without `per_engine` there is no label `engine`.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    documentation: str
    label: str | None = None
    label_values: tuple[str, ...] = ("",)
    buckets: str = ""
    per_engine: bool = True


FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
"""vLLM's reasons for the end of a request, in its order."""

REJECTION_REASONS = ("max_num_queued_reqs", "max_num_queued_tokens")
"""The limits of the queue, in vLLM's order."""

SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")
"""What an engine may be, in vLLM's order."""


def _gauge(name: str, documentation: str) -> VllmFamily:
    return VllmFamily("gauge", name, documentation)


def _counter(name: str, documentation: str) -> VllmFamily:
    return VllmFamily("counter", name, documentation)


def _histogram(name: str, buckets: str, documentation: str) -> VllmFamily:
    return VllmFamily("histogram", name, documentation, buckets=buckets)


VLLM_FAMILIES: tuple[VllmFamily, ...] = (
    _counter(
        "vllm:estimated_flops_per_gpu",
        "Estimated number of floating point operations per GPU (for Model Flops Utilization calculations).",
    ),
    _counter(
        "vllm:estimated_read_bytes_per_gpu",
        "Estimated number of bytes read from memory per GPU (for Model Flops Utilization calculations).",
    ),
    _counter(
        "vllm:estimated_write_bytes_per_gpu",
        "Estimated number of bytes written to memory per GPU (for Model Flops Utilization calculations).",
    ),
    _gauge("vllm:num_requests_running", "Number of requests in model execution batches."),
    _gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed."),
    VllmFamily(
        "gauge",
        "vllm:num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
        "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
        "Sum of all reasons equals vllm:num_requests_waiting.",
        "reason",
        ("capacity", "deferred"),
    ),
    VllmFamily(
        "gauge",
        "vllm:engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
        "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        "sleep_state",
        SLEEP_STATES,
    ),
    _gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
    _counter("vllm:prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
    _counter("vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    _counter(
        "vllm:external_prefix_cache_queries",
        "External prefix cache queries from KV connector cross-instance cache sharing, in terms of number of queried "
        "tokens.",
    ),
    _counter(
        "vllm:external_prefix_cache_hits",
        "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached "
        "tokens.",
    ),
    _counter("vllm:mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    _counter("vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    _counter("vllm:num_preemptions", "Cumulative number of preemption from the engine."),
    _counter("vllm:prompt_tokens", "Number of prefill tokens processed."),
    VllmFamily(
        "counter",
        "vllm:prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        "source",
        ("local_compute", "local_cache_hit", "external_kv_transfer"),
    ),
    _counter("vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
    VllmFamily(
        "counter",
        "vllm:prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), "
        "disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to "
        "vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        "source",
        ("device", "host", "p2p", "disk", "external_unspecified"),
    ),
    _counter("vllm:generation_tokens", "Number of generation tokens processed."),
    VllmFamily(
        "counter",
        "vllm:request_success",
        "Count of successfully processed requests.",
        "finished_reason",
        FINISH_REASONS,
    ),
    VllmFamily(
        "counter",
        "vllm:admission_rejections",
        "Number of admission attempts rejected by a queue limit, by reason.",
        "reason",
        REJECTION_REASONS,
        per_engine=False,
    ),
    _histogram("vllm:request_prompt_tokens", "request_tokens", "Number of prefill tokens processed."),
    _histogram("vllm:request_generation_tokens", "request_tokens", "Number of generation tokens processed."),
    _histogram(
        "vllm:iteration_tokens_total", "iteration_tokens", "Histogram of number of tokens per engine_step."
    ),
    _histogram(
        "vllm:request_max_num_generation_tokens",
        "request_tokens",
        "Histogram of maximum number of requested generation tokens.",
    ),
    _histogram("vllm:request_params_n", "request_params_n", "Histogram of the n request parameter."),
    _histogram(
        "vllm:request_params_max_tokens", "request_tokens", "Histogram of the max_tokens request parameter."
    ),
    _histogram(
        "vllm:time_to_first_token_seconds",
        "time_to_first_token",
        "Histogram of time to first token in seconds.",
    ),
    _histogram(
        "vllm:inter_token_latency_seconds",
        "inter_token_latency",
        "Histogram of inter-token latency in seconds.",
    ),
    _histogram(
        "vllm:request_time_per_output_token_seconds",
        "inter_token_latency",
        "Histogram of time_per_output_token_seconds per request.",
    ),
    _histogram(
        "vllm:e2e_request_latency_seconds",
        "request_latency",
        "Histogram of e2e request latency in seconds.",
    ),
    _histogram(
        "vllm:request_queue_time_seconds",
        "request_latency",
        "Histogram of time spent in WAITING phase for request.",
    ),
    _histogram(
        "vllm:request_inference_time_seconds",
        "request_latency",
        "Histogram of time spent in RUNNING phase for request.",
    ),
    _histogram(
        "vllm:request_prefill_time_seconds",
        "request_latency",
        "Histogram of time spent in PREFILL phase for request.",
    ),
    _histogram(
        "vllm:request_decode_time_seconds",
        "request_latency",
        "Histogram of time spent in DECODE phase for request.",
    ),
    _histogram(
        "vllm:request_num_preemptions",
        "request_num_preemptions",
        "Histogram of the number of times a request was preempted.",
    ),
    _histogram(
        "vllm:request_prefill_kv_computed_tokens",
        "request_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    ),
)
