"""However engines are told things, what the page says adds up."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.server.metrics.recorded import server_metrics

from understudy.server.metrics import FINISH_REASONS, EngineMetrics, FinishedStats, ServerMetrics

NUM_ENGINES = 2

TOKENS = st.integers(0, 5000)
SECONDS = st.floats(0, 10_000)
PROMPTS = st.integers(1, 5000).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size)))
FINISHED = st.builds(
    lambda prompt, **others: FinishedStats(prompt_tokens=prompt[0], cached_tokens=prompt[1], **others),
    PROMPTS,
    reason=st.sampled_from(FINISH_REASONS),
    generation_tokens=st.integers(1, 5000),
    max_tokens=st.none() | TOKENS,
    n=st.none() | st.integers(1, 30),
    num_preemptions=st.integers(0, 40),
    e2e_seconds=SECONDS,
    queue_seconds=SECONDS,
    prefill_seconds=SECONDS,
    decode_seconds=SECONDS,
    inference_seconds=SECONDS,
)

Call = Callable[[EngineMetrics], None]
CALLS: st.SearchStrategy[Call] = st.one_of(
    st.builds(
        lambda running, waiting, usage: lambda engine: engine.gauges(running, waiting, usage),
        TOKENS,
        TOKENS,
        st.floats(0, 1),
    ),
    st.builds(lambda prompt: lambda engine: engine.prefix_cache(*prompt), PROMPTS),
    st.builds(lambda tokens: lambda engine: engine.iteration(tokens), TOKENS),
    st.builds(lambda prompt, ttft: lambda engine: engine.first_output(*prompt, ttft), PROMPTS, SECONDS),
    st.builds(lambda gap, count: lambda engine: engine.inter_token(gap, count), SECONDS, st.integers(1, 300)),
    st.builds(lambda tokens: lambda engine: engine.generated(tokens), TOKENS),
    st.builds(lambda count: lambda engine: engine.preempted(count), st.integers(0, 5)),
    st.builds(lambda stats: lambda engine: engine.finished(stats), FINISHED),
    st.builds(lambda level: lambda engine: engine.sleep_state(level), st.none() | st.sampled_from((0, 1, 2))),
)


@dataclass
class Shown:
    """What a page says of an engine: samples by name, each with its further labels."""

    by_name: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    def total(self, name: str) -> float:
        """Return the sum over all further labels."""
        return sum(self.by_name[f"vllm:{name}"].values())


def _shown(metrics: ServerMetrics, rank: int) -> Shown:
    shown = Shown()
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            if sample.labels.get("engine") == str(rank):
                others = [
                    value for name, value in sample.labels.items() if name not in {"engine", "model_name"}
                ]
                shown.by_name[sample.name][" ".join(others)] = sample.value
    return shown


@given(calls=st.lists(st.tuples(st.integers(0, NUM_ENGINES - 1), CALLS), max_size=25))
def test_counters_add_up(calls: list[tuple[int, Call]]) -> None:
    """Parts sum to their wholes, a bucket holds no more than the next, and the last holds all."""
    metrics = server_metrics(num_engines=NUM_ENGINES)
    for rank, call in calls:
        call(metrics.engines[rank])
    for rank in range(NUM_ENGINES):
        shown = _shown(metrics, rank)
        assert shown.total("prompt_tokens_total") == shown.total("prompt_tokens_by_source_total")
        hits = shown.by_name["vllm:prompt_tokens_by_source_total"]["local_cache_hit"]
        assert shown.total("prompt_tokens_cached_total") == hits
        assert shown.total("prefix_cache_hits_total") == shown.total("prompt_tokens_cached_by_source_total")
        assert shown.total("prefix_cache_hits_total") <= shown.total("prefix_cache_queries_total")
        assert shown.total("num_requests_waiting") == shown.total("num_requests_waiting_by_reason")
        assert shown.total("engine_sleep_state") <= 1
        num_finished = shown.total("request_success_total")
        for histogram in (
            "e2e_request_latency_seconds",
            "request_queue_time_seconds",
            "request_prompt_tokens",
            "request_num_preemptions",
        ):
            assert shown.total(f"{histogram}_count") == num_finished
        assert shown.total("request_params_n_count") == shown.total("request_max_num_generation_tokens_count")
        for name, buckets in shown.by_name.items():
            if name.endswith("_bucket"):
                counts = list(buckets.values())
                assert counts == sorted(counts)
                assert counts[-1] == shown.total(name.removeprefix("vllm:").replace("_bucket", "_count"))


@given(calls=st.lists(CALLS, max_size=10))
def test_engines_do_not_count_for_each_other(calls: list[Call]) -> None:
    """What one engine is told changes nothing of another."""
    metrics = server_metrics(num_engines=NUM_ENGINES)
    before = _shown(metrics, 1)
    for call in calls:
        call(metrics.engines[0])
    assert _shown(metrics, 1) == before


def test_a_request_of_several_samples_counts_its_n_once() -> None:
    """With n = 2 two samples finish, and `n` and the longest answer are observed with the second."""
    metrics = server_metrics()
    seconds = dict.fromkeys(
        ("e2e_seconds", "queue_seconds", "prefill_seconds", "decode_seconds", "inference_seconds"), 1.0
    )
    for n, longest, generation_tokens in ((None, None, 70), (2, 70, 30)):
        metrics.engines[0].finished(
            FinishedStats(
                reason="length",
                prompt_tokens=5,
                cached_tokens=0,
                generation_tokens=generation_tokens,
                max_tokens=70,
                n=n,
                longest_answer_tokens=longest,
                num_preemptions=0,
                **seconds,
            )
        )
    shown = _shown(metrics, 0)
    assert shown.total("request_generation_tokens_sum") == 100
    assert shown.total("request_params_n_count") == 1
    assert shown.total("request_params_n_sum") == 2
    assert shown.total("request_max_num_generation_tokens_sum") == 70
