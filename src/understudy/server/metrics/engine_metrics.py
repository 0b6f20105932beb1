"""What vLLM's API server counts of one engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.server.metrics.series import Counter, Histogram
from understudy.server.metrics.vllm_families import FINISH_REASONS, SLEEP_STATES
from understudy.server.metrics.vllm_series import VllmSeries

LoRAListener = Callable[[Sequence[str], Sequence[str], float], None]
"""Takes the names of the adapters with running and with waiting requests, and the Unix time in seconds."""

_STATE_OF_LEVEL = {None: "awake", 1: "weights_offloaded", 2: "discard_all"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStats:
    """One finished sample, as vLLM's FinishedRequestStats.

    `reason` is one of FINISH_REASONS. `max_tokens` is what was effective after clamping, None or 0 for a request
    without one. vLLM observes `n` and the longest of the n answers once a request, when the last sample ends: `n` is None for
    the samples before, and `longest_answer_tokens` counts only with `n`; None means `generation_tokens`.
    """

    reason: str
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int
    max_tokens: int | None
    n: int | None = 1
    longest_answer_tokens: int | None = None
    num_preemptions: int
    e2e_seconds: float
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    inference_seconds: float

    @property
    def seconds_per_output_token(self) -> float:
        """The mean time between tokens, 0 for an answer of one token."""
        later_tokens = self.generation_tokens - 1
        return self.decode_seconds / later_tokens if later_tokens > 0 else 0


class EngineMetrics:
    """Counts for one data-parallel rank. No call looks up a label: the series are bound at the start."""

    def __init__(self, series: VllmSeries, rank: int, lora: LoRAListener | None = None) -> None:
        def counter(name: str, value: str = "") -> Counter:
            return series.counters[f"vllm:{name}", rank, value]

        def histogram(name: str) -> Histogram:
            return series.histograms[f"vllm:{name}", rank, ""]

        gauges = series.gauges
        self._lora = lora
        self._running = gauges["vllm:num_requests_running", rank, ""]
        self._waiting = gauges["vllm:num_requests_waiting", rank, ""]
        self._waiting_for_capacity = gauges["vllm:num_requests_waiting_by_reason", rank, "capacity"]
        self._waiting_deferred = gauges["vllm:num_requests_waiting_by_reason", rank, "deferred"]
        self._sleep = {state: gauges["vllm:engine_sleep_state", rank, state] for state in SLEEP_STATES}
        self._kv_usage = gauges["vllm:kv_cache_usage_perc", rank, ""]
        self._prefix_queries = counter("prefix_cache_queries")
        self._prefix_hits = counter("prefix_cache_hits")
        self._device_hits = counter("prompt_tokens_cached_by_source", "device")
        self._preemptions = counter("num_preemptions")
        self._prompt_tokens = counter("prompt_tokens")
        self._computed_tokens = counter("prompt_tokens_by_source", "local_compute")
        self._hit_tokens = counter("prompt_tokens_by_source", "local_cache_hit")
        self._cached_tokens = counter("prompt_tokens_cached")
        self._generation_tokens = counter("generation_tokens")
        self._finished = {reason: counter("request_success", reason) for reason in FINISH_REASONS}
        self._iteration = histogram("iteration_tokens_total")
        self._ttft = histogram("time_to_first_token_seconds")
        self._inter_token = histogram("inter_token_latency_seconds")
        self._request_prompt = histogram("request_prompt_tokens")
        self._request_generation = histogram("request_generation_tokens")
        self._request_longest = histogram("request_max_num_generation_tokens")
        self._request_n = histogram("request_params_n")
        self._request_max_tokens = histogram("request_params_max_tokens")
        self._request_per_token = histogram("request_time_per_output_token_seconds")
        self._request_e2e = histogram("e2e_request_latency_seconds")
        self._request_queue = histogram("request_queue_time_seconds")
        self._request_inference = histogram("request_inference_time_seconds")
        self._request_prefill = histogram("request_prefill_time_seconds")
        self._request_decode = histogram("request_decode_time_seconds")
        self._request_preemptions = histogram("request_num_preemptions")
        self._request_computed = histogram("request_prefill_kv_computed_tokens")
        self.sleep_state(None)

    def gauges(self, running: int, waiting: int, kv_usage: float, *, deferred: int = 0) -> None:
        """Take the state after a step: requests, `deferred` of those that wait, and the share of the KV cache, 0 to 1."""
        self._running.value = running
        self._waiting.value = waiting
        self._waiting_for_capacity.value = waiting - deferred
        self._waiting_deferred.value = deferred
        self._kv_usage.value = kv_usage

    def prefix_cache(self, queries: int, hits: int) -> None:
        """Add tokens that were looked up in the prefix cache, and found there, at the first admission of requests."""
        self._prefix_queries.value += queries
        self._prefix_hits.value += hits
        self._device_hits.value += hits

    def iteration(self, num_tokens: int) -> None:
        """Observe one update with outputs: prompt tokens computed for those with their first, and generated tokens."""
        self._iteration.observe(num_tokens)

    def first_output(self, prompt_tokens: int, cached_tokens: int, ttft_seconds: float) -> None:
        """Count the prompt of a request whose first token came; `cached_tokens` of it were not computed."""
        self._prompt_tokens.value += prompt_tokens
        self._computed_tokens.value += prompt_tokens - cached_tokens
        self._hit_tokens.value += cached_tokens
        self._cached_tokens.value += cached_tokens
        self._ttft.observe(ttft_seconds)

    def inter_token(self, gap_seconds: float, count: int = 1) -> None:
        """Observe the time since the output before, for `count` requests."""
        self._inter_token.observe(gap_seconds, count)

    def generated(self, num_tokens: int) -> None:
        """Add tokens that came out."""
        self._generation_tokens.value += num_tokens

    def preempted(self, count: int) -> None:
        """Add preemptions; vLLM hears of them with the next token of the request."""
        self._preemptions.value += count

    def finished(self, stats: FinishedStats) -> None:
        """Count a finished sample; not one whose client left, which vLLM does not count."""
        self._finished[stats.reason].value += 1
        self._request_e2e.observe(stats.e2e_seconds)
        self._request_queue.observe(stats.queue_seconds)
        self._request_prefill.observe(stats.prefill_seconds)
        self._request_inference.observe(stats.inference_seconds)
        self._request_decode.observe(stats.decode_seconds)
        self._request_preemptions.observe(stats.num_preemptions)
        self._request_computed.observe(stats.prompt_tokens - stats.cached_tokens)
        self._request_prompt.observe(stats.prompt_tokens)
        self._request_generation.observe(stats.generation_tokens)
        self._request_per_token.observe(stats.seconds_per_output_token)
        if stats.max_tokens:
            self._request_max_tokens.observe(stats.max_tokens)
        if stats.n is not None:
            longest = stats.longest_answer_tokens
            self._request_longest.observe(stats.generation_tokens if longest is None else longest)
            self._request_n.observe(stats.n)

    def sleep_state(self, level: int | None) -> None:
        """Take the level at which the engine sleeps, None for awake; at level 0 vLLM shows no state at all."""
        shown = _STATE_OF_LEVEL.get(level)
        for state, gauge in self._sleep.items():
            gauge.value = int(state == shown)

    def lora(self, running: Sequence[str], waiting: Sequence[str], now_seconds: float) -> None:
        """Take the adapters with requests, at a Unix time; nothing without LoRA."""
        if self._lora is not None:
            self._lora(running, waiting, now_seconds)
