"""From what the clients of a replay saw to the summary of a run, and nothing that they could not see."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from understudy.fleet import Refusals, RequestRecord, RunSummary
from understudy.fleet.distribution import distribution
from understudy.fleet.summarise import share, tpot_ns, ttft_ns
from understudy.fleet.summary import WorkerSummary
from understudy.replay.record import REFUSED, UNFINISHED, WHOLE, ReplayRecord
from understudy.replay.replay import Replay

_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What came of a replay. The place of a name among the `worker_names` is its worker's number: they are sorted."""

    summary: RunSummary
    records: list[ReplayRecord]
    worker_names: list[str]


def findings(name: str, replay: Replay) -> Findings:
    """Return what was seen, with the workers numbered that told their names, under the name that the run is to have."""
    names = sorted({record.worker_name for record in replay.records if record.worker_name is not None})
    numbers = {worker: number for number, worker in enumerate(names)}
    records = [
        replace(record, seen=record.seen._replace(worker=numbers.get(record.worker_name or "")))
        for record in replay.records
    ]
    summary = _summary(name, replay, [record.seen for record in records], len(names))
    return Findings(summary=summary, records=records, worker_names=names)


def _summary(name: str, replay: Replay, records: Sequence[RequestRecord], num_workers: int) -> RunSummary:
    finished = [record for record in records if record.status in WHOLE]
    refused = [record for record in records if record.status == REFUSED]
    started = [record for record in records if record.first_token_ns is not None]
    told = [record for record in finished if record.cached_tokens is not None]
    seconds = (replay.end_ns - replay.start_ns) / _NS_PER_SECOND
    prompt_tokens = sum(record.prompt_tokens for record in started)
    output_tokens = sum(record.output_tokens for record in records)
    cached_tokens = _cached_tokens(records)
    return RunSummary(
        policy=name,
        requests=len(records),
        finished=len(finished),
        refused=Refusals(
            prompt_longer_than_context=len(refused),
            longest_prompt_tokens=max((record.prompt_tokens for record in refused), default=0),
            longest_request_tokens=replay.longest_refused_tokens,
        ),
        unfinished=sum(record.status == UNFINISHED for record in records),
        duration_seconds=seconds,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        believed_cached_tokens=None,
        output_tokens=output_tokens,
        hit_rate_tokens=_hit_rate(told),
        hit_rate_requests=share(sum(1 for record in told if record.cached_tokens), len(told))
        if told
        else None,
        ttft=distribution(ttft_ns(finished)),
        ttft_hits=distribution(ttft_ns(record for record in told if record.cached_tokens)),
        ttft_misses=distribution(ttft_ns(record for record in told if not record.cached_tokens)),
        tpot=distribution(tpot_ns(finished)),
        itl=distribution(replay.inter_token_ns),
        e2e=distribution(r.finish_ns - r.arrival_ns for r in finished if r.finish_ns is not None),
        queue=distribution([]),
        requests_per_second=share(len(finished), seconds),
        output_tokens_per_second=share(output_tokens, seconds),
        total_tokens_per_second=share(prompt_tokens + output_tokens, seconds),
        preemptions=None,
        evicted_blocks=None,
        kv_usage_mean=None,
        kv_usage_peak=None,
        matched_blocks=[],
        workers=_workers(records, num_workers),
        failed=_failures(records),
        kind="replay",
    )


def _failures(records: Sequence[RequestRecord]) -> dict[str, int]:
    accounted = {*WHOLE, REFUSED, UNFINISHED}
    counts = Counter(record.status for record in records if record.status not in accounted)
    return dict(sorted(counts.items()))


def _workers(records: Sequence[RequestRecord], num_workers: int) -> list[WorkerSummary]:
    by_worker: list[list[RequestRecord]] = [[] for _ in range(num_workers)]
    for record in records:
        if record.worker is not None:
            by_worker[record.worker].append(record)
    return [_worker(number, own) for number, own in enumerate(by_worker)]


def _worker(number: int, own: Sequence[RequestRecord]) -> WorkerSummary:
    return WorkerSummary(
        worker=number,
        requests=len(own),
        prompt_tokens=sum(record.prompt_tokens for record in own if record.first_token_ns is not None),
        cached_tokens=_cached_tokens(own),
        output_tokens=sum(record.output_tokens for record in own),
        busy_fraction=None,
        kv_usage_mean=None,
        kv_usage_peak=None,
        preemptions=None,
        evicted_blocks=None,
        series=None,
    )


def _cached_tokens(records: Sequence[RequestRecord]) -> int | None:
    """Return the cached tokens of the records that were told any number, None if none was."""
    told = [record.cached_tokens for record in records if record.cached_tokens is not None]
    return sum(told) if told else None


def _hit_rate(told: Sequence[RequestRecord]) -> float | None:
    if not told:
        return None
    return share(
        sum(record.cached_tokens or 0 for record in told), sum(record.prompt_tokens for record in told)
    )
