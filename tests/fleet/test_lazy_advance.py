"""Workers are brought forward when somebody looks; that nobody can tell from the results."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import fleets, law, simulate, workloads
from tests.fleet.shadow import NEVER_NS, shadows
from tests.fleet.witness import Witness

from understudy.fleet import FleetConfig, summarise
from understudy.routing import load_policy
from understudy.workload import Arrivals, ClosedLoop, OpenLoop, WorkloadRequest


def _arrivals(workload: list[WorkloadRequest], concurrency: int | None) -> Arrivals:
    return OpenLoop(workload) if concurrency is None else ClosedLoop(workload, concurrency, think_ns=700)


@law
@given(fleets, workloads, st.none() | st.integers(1, 6), st.data())
def test_looking_changes_nothing(
    config: FleetConfig, workload: list[WorkloadRequest], concurrency: int | None, data: st.DataObject
) -> None:
    """Round robin that looks at each arrival, or at some, ends with the records and sums of one that never does."""
    blind = replace(config, policy="round-robin", choose=load_policy("round-robin"))
    names = [request.request_id for request in workload]
    only = data.draw(st.none() | st.frozensets(st.sampled_from(names))) if names else None
    looking = replace(blind, choose=Witness(blind.choose, only=only))
    never = simulate(blind, _arrivals(workload, concurrency))
    each_time = simulate(looking, _arrivals(workload, concurrency))
    assert each_time.records == never.records
    assert summarise(each_time) == summarise(never)


@law
@given(fleets, workloads, st.none() | st.integers(1, 6))
def test_a_fleet_is_its_workers_one_by_one(
    config: FleetConfig, workload: list[WorkloadRequest], concurrency: int | None
) -> None:
    """Each worker does what it does alone, step by step: many steps at once are a way to go faster, no more."""
    simulation = simulate(config, _arrivals(workload, concurrency))
    records = {record.request_id: record for record in simulation.records}
    for worker, shadow in zip(simulation.workers, shadows(simulation, workload), strict=True):
        alone = shadow.forward(NEVER_NS)
        for name, request in shadow.requests.items():
            record = records[name]
            assert (record.queued_ns, record.scheduled_ns, record.first_token_ns, record.finish_ns) == (
                request.queued_ns,
                request.scheduled_ns,
                request.first_token_ns,
                shadow.finished_ns[name],
            )
            assert (record.cached_tokens, record.preemptions, record.output_tokens) == (
                request.num_cached_tokens,
                request.num_preemptions,
                request.num_output_tokens,
            )
        assert worker.engine.num_steps == alone.num_steps
        assert worker.engine.busy_ns == alone.busy_ns
        assert worker.engine.scheduler.num_preemptions == alone.scheduler.num_preemptions
        assert worker.engine.scheduler.kv_cache.stats == alone.scheduler.kv_cache.stats
        pools = [engine.scheduler.kv_cache.pool for engine in (worker.engine, alone)]
        assert pools[0].evictable_hashes() == pools[1].evictable_hashes()
        assert pools[0].num_evicted_blocks == pools[1].num_evicted_blocks
