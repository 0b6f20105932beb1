"""From the records of a run to its summary."""

from collections import Counter
from collections.abc import Iterable, Sequence

from understudy.engine.block_pool import BlockPool
from understudy.fleet.distribution import distribution, weighted_distribution
from understudy.fleet.record import RequestRecord
from understudy.fleet.simulation import Simulation
from understudy.fleet.summary import Bin, Refusals, RunSummary, WorkerSummary
from understudy.fleet.worker import Worker

_NS_PER_SECOND = 1_000_000_000


def summarise(simulation: Simulation) -> RunSummary:
    """Summarise a finished simulation; rates and shares are 0 where there is nothing to divide by."""
    records = simulation.records
    scheduled = [record for record in records if record.scheduled_ns is not None]
    finished = [record for record in records if record.finish_ns is not None]
    refused = [record for record in records if record.status == "refused"]
    hits = [record for record in finished if record.cached_tokens]
    misses = [record for record in finished if not record.cached_tokens]
    duration_ns = simulation.end_ns - simulation.start_ns
    seconds = duration_ns / _NS_PER_SECOND
    prompt_tokens = sum(record.prompt_tokens for record in scheduled)
    cached_tokens = sum(record.cached_tokens or 0 for record in scheduled)
    output_tokens = sum(record.output_tokens for record in records)
    gaps: Counter[int] = Counter()
    for worker in simulation.workers:
        gaps.update(worker.inter_token_ns)
    by_worker: dict[int, list[RequestRecord]] = {worker.index: [] for worker in simulation.workers}
    for record in records:
        if record.worker is not None:
            by_worker[record.worker].append(record)
    workers = [_worker(worker, by_worker[worker.index], simulation) for worker in simulation.workers]
    return RunSummary(
        policy=simulation.config.policy,
        requests=len(records),
        finished=len(finished),
        refused=Refusals(
            prompt_longer_than_context=len(refused),
            longest_prompt_tokens=max((record.prompt_tokens for record in refused), default=0),
            longest_request_tokens=simulation.longest_refused_tokens,
        ),
        unfinished=len(records) - len(finished) - len(refused),
        duration_seconds=seconds,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        believed_cached_tokens=sum(record.believed_cached_tokens or 0 for record in scheduled),
        output_tokens=output_tokens,
        hit_rate_tokens=share(cached_tokens, prompt_tokens),
        hit_rate_requests=share(sum(1 for record in scheduled if record.cached_tokens), len(scheduled)),
        ttft=distribution(ttft_ns(finished)),
        ttft_hits=distribution(ttft_ns(hits)),
        ttft_misses=distribution(ttft_ns(misses)),
        tpot=distribution(tpot_ns(finished)),
        itl=weighted_distribution(gaps),
        e2e=distribution(r.finish_ns - r.arrival_ns for r in finished if r.finish_ns is not None),
        queue=distribution(r.scheduled_ns - r.arrival_ns for r in finished if r.scheduled_ns is not None),
        requests_per_second=share(len(finished), seconds),
        output_tokens_per_second=share(output_tokens, seconds),
        total_tokens_per_second=share(prompt_tokens + output_tokens, seconds),
        preemptions=sum(worker.engine.scheduler.num_preemptions for worker in simulation.workers),
        evicted_blocks=sum(_pool(worker).num_evicted_blocks for worker in simulation.workers),
        kv_usage_mean=sum(_mean_kv_usage(worker, duration_ns) for worker in simulation.workers)
        / len(workers),
        kv_usage_peak=max(_peak_kv_usage(worker) for worker in simulation.workers),
        matched_blocks=_matched_blocks(scheduled, simulation.config.engine.block_size),
        workers=workers,
    )


def _worker(worker: Worker, records: Sequence[RequestRecord], simulation: Simulation) -> WorkerSummary:
    duration_ns = simulation.end_ns - simulation.start_ns
    scheduled = [record for record in records if record.scheduled_ns is not None]
    return WorkerSummary(
        worker=worker.index,
        requests=len(records),
        prompt_tokens=sum(record.prompt_tokens for record in scheduled),
        cached_tokens=sum(record.cached_tokens or 0 for record in scheduled),
        output_tokens=sum(record.output_tokens for record in records),
        busy_fraction=min(share(worker.engine.busy_ns, duration_ns), 1.0),
        kv_usage_mean=_mean_kv_usage(worker, duration_ns),
        kv_usage_peak=_peak_kv_usage(worker),
        preemptions=worker.engine.scheduler.num_preemptions,
        evicted_blocks=_pool(worker).num_evicted_blocks,
        series=worker.timeline.series(_num_blocks(worker), simulation.end_ns),
    )


def _pool(worker: Worker) -> BlockPool:
    return worker.engine.scheduler.kv_cache.pool


def _num_blocks(worker: Worker) -> int:
    """Return how many blocks requests may reference: all but the null block."""
    return _pool(worker).num_gpu_blocks - 1


def _mean_kv_usage(worker: Worker, duration_ns: int) -> float:
    return share(worker.timeline.block_ns, duration_ns * _num_blocks(worker))


def _peak_kv_usage(worker: Worker) -> float:
    return share(worker.timeline.peak_blocks, _num_blocks(worker))


def ttft_ns(records: Iterable[RequestRecord]) -> list[int]:
    """Time from arrival to the first token."""
    return [r.first_token_ns - r.arrival_ns for r in records if r.first_token_ns is not None]


def tpot_ns(records: Iterable[RequestRecord]) -> list[int]:
    """Time per output token after the first, of each request with more than one; in whole nanoseconds."""
    return [
        round((r.finish_ns - r.first_token_ns) / (r.output_tokens - 1))
        for r in records
        if r.output_tokens > 1 and r.finish_ns is not None and r.first_token_ns is not None
    ]


def _matched_blocks(records: Iterable[RequestRecord], block_size: int) -> list[Bin]:
    """Count requests by matched blocks: none, 1, 2-3, 4-7 and so on in powers of two."""
    counts = Counter(((record.cached_tokens or 0) // block_size).bit_length() for record in records)
    return [
        Bin(low=1 << (bits - 1) if bits else 0, high=1 << bits, count=counts[bits])
        for bits in range(max(counts, default=-1) + 1)
    ]


def share(part: float, whole: float) -> float:
    """Return part / whole, 0 where there is nothing to divide by."""
    return part / whole if whole else 0.0
