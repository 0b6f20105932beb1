"""The summary of a replay: sums over its records, and nothing that no client can see."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.fleet import RequestRecord, RunSummary
from understudy.fleet.summary import WorkerSummary
from understudy.replay import PromptTokens, Replay, ReplayRecord, ReplaySettings, Served, endpoint, findings
from understudy.workload import OpenLoop

STATUSES = ("length", "stop", "refused", "unfinished", "http-503", "broken")
NAMES = (None, "http://a", "http://b")


@st.composite
def _records(draw: st.DrawFn) -> ReplayRecord:
    status = draw(st.sampled_from(STATUSES))
    is_whole = status in {"length", "stop"}
    arrival_ns = draw(st.integers(0, 10**9))
    first_token_ns = arrival_ns + draw(st.integers(1, 10**9)) if is_whole or draw(st.booleans()) else None
    seen = RequestRecord(
        serial=0,
        request_id="r",
        status=status,
        arrival_ns=arrival_ns,
        prompt_tokens=draw(st.integers(1, 100)),
        output_tokens=0 if first_token_ns is None else draw(st.integers(1, 9)),
        first_token_ns=first_token_ns,
        finish_ns=first_token_ns + draw(st.integers(0, 10**9))
        if is_whole and first_token_ns is not None
        else None,
        cached_tokens=draw(st.sampled_from([None, 0, 16])) if is_whole else None,
        preemptions=None,
    )
    return ReplayRecord(seen=seen, worker_name=draw(st.sampled_from(NAMES)))


@given(st.lists(_records(), max_size=12))
def test_counts_are_sums_over_records(records: list[ReplayRecord]) -> None:
    """Each request is counted once, where it ended; rates are of those that told what they are of."""
    target = endpoint("http://h", None)
    replay = Replay(ReplaySettings(), target, Served(model="m"), OpenLoop([]), PromptTokens())
    replay.records = records
    replay.end_ns = 4 * 10**9
    found = findings("n", replay)
    run, seen = found.summary, [record.seen for record in records]
    finished = [record for record in seen if record.finish_ns is not None]
    told = [record for record in finished if record.cached_tokens is not None]
    assert (run.policy, run.kind, run.requests, run.finished) == ("n", "replay", len(seen), len(finished))
    assert run.requests == (
        run.finished + run.unfinished + run.refused.prompt_longer_than_context + sum(run.failed.values())
    )
    assert run.prompt_tokens == sum(r.prompt_tokens for r in seen if r.first_token_ns is not None)
    assert run.output_tokens == sum(r.output_tokens for r in seen)
    assert (run.ttft.count, run.e2e.count, run.queue.count) == (len(finished), len(finished), 0)
    assert run.ttft_hits.count + run.ttft_misses.count == len(told)
    if told:
        assert run.cached_tokens is not None
        assert run.cached_tokens == sum(r.cached_tokens or 0 for r in told)
        assert run.hit_rate_tokens == run.cached_tokens / sum(r.prompt_tokens for r in told)
    else:
        assert (run.cached_tokens, run.hit_rate_tokens, run.hit_rate_requests) == (None, None, None)
    for number, name in enumerate(found.worker_names):
        own = [record.seen for record in records if record.worker_name == name]
        assert run.workers[number].requests == len(own) > 0
        assert run.workers[number].output_tokens == sum(r.output_tokens for r in own)
    parts: list[RunSummary | WorkerSummary] = [run, *run.workers]
    for part in parts:
        unknown = (part.preemptions, part.evicted_blocks, part.kv_usage_mean, part.kv_usage_peak)
        assert unknown == (None, None, None, None)
    assert all((worker.series, worker.busy_fraction) == (None, None) for worker in run.workers)
