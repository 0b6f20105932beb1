"""What a router knows when it decides, compared with the workers done again one by one."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import FREE, fleet, fleets, law, simulate, turn, workloads
from tests.fleet.shadow import announced_blocks, cached_blocks, in_flight_at, shadows
from tests.fleet.witness import Witness

from understudy.engine.block_pool import BlockPool
from understudy.fleet import FleetConfig, NewsTiming, RequestRecord, Simulation
from understudy.fleet.news import News
from understudy.routing import Knowledge
from understudy.workload import WorkloadRequest


def _watched(
    config: FleetConfig, workload: list[WorkloadRequest], knowledge: Knowledge, news: NewsTiming | None = None
) -> tuple[Simulation, Witness, list[RequestRecord]]:
    """Run under a witness; return also the records of the requests on which it was asked."""
    witness = Witness(config.choose)
    simulation = simulate(
        replace(config, choose=witness, knowledge=knowledge, news=news or config.news), workload
    )
    return simulation, witness, [r for r in simulation.records if r.request_id in witness.looks]


@law
@given(fleets, workloads)
def test_own_counts_are_always_true(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """Whatever news a router gets, it knows what it has sent and what has come back."""
    simulation, witness, asked = _watched(config, workload, config.knowledge)
    for record in asked:
        for view in witness.looks[record.request_id].workers:
            in_flight = in_flight_at(simulation.records, record, view.index)
            assert view.in_flight == len(in_flight)
            assert view.in_flight_prompt_tokens == sum(other.prompt_tokens for other in in_flight)
            blocks = {other.request_id: -(-other.prompt_tokens // 4) for other in in_flight}
            assert view.active_decode_blocks == sum(blocks.values())
            assert view.active_prefill_blocks == sum(
                blocks[other.request_id] - witness.looks[other.request_id].expected_blocks
                for other in in_flight
                if other.first_token_ns is not None and other.first_token_ns >= record.arrival_ns
            )
            assert view.requests_routed == sum(
                other.worker == view.index for other in simulation.records[: record.serial]
            )


@law
@given(fleets, workloads)
def test_exact_knowledge_is_what_the_workers_would_say(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """At each decision: the blocks that each engine would find, and its load, steps due at this very time excluded."""
    simulation, witness, asked = _watched(config, workload, Knowledge.EXACT)
    workers = shadows(simulation, workload)
    for record in asked:
        look = witness.looks[record.request_id]
        for view, matched, worker in zip(look.workers, look.matched, workers, strict=True):
            engine = worker.forward(record.arrival_ns)
            just_arrived = sum(
                other.worker == view.index and other.arrival_ns == record.arrival_ns
                for other in simulation.records[: record.serial]
            )
            assert matched == cached_blocks(engine, look.hashes)
            assert view.running == len(engine.scheduler.running)
            assert view.waiting == engine.num_waiting + just_arrived
            assert view.kv_usage == engine.scheduler.kv_cache.pool.usage
            assert view.age_seconds == 0.0


@law
@given(fleets, workloads)
def test_an_exact_router_is_right_where_a_request_starts_at_once(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """It believes what is true if the worker is idle and gets nothing else at the same time.

    Otherwise the cache may change between the decision and the admission: others compute, or evict.
    """
    simulation, _, asked = _watched(replace(config, policy="prefix"), workload, Knowledge.EXACT)
    for record in asked:
        assert record.worker is not None
        others = in_flight_at(simulation.records, record, record.worker)
        if others or any(
            other.worker == record.worker and other.arrival_ns == record.arrival_ns
            for other in simulation.records[record.serial + 1 :]
        ):
            continue
        assert record.scheduled_ns == record.queued_ns == record.arrival_ns
        if record.reason in {"longest prefix", "nothing cached: least loaded"}:
            assert record.cached_tokens == record.believed_cached_tokens


@law
@given(fleets, workloads)
def test_events_arrive_late_and_in_order(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """An event counts from the delay after its publication on; with no delay, from the next decision on."""
    simulation, witness, asked = _watched(config, workload, Knowledge.EVENTS)
    workers = shadows(simulation, workload)
    for record in asked:
        look = witness.looks[record.request_id]
        for matched, worker in zip(look.matched, workers, strict=True):
            worker.forward(record.arrival_ns)
            heard = [
                event for at_ns, event in worker.events if at_ns + config.news.delay_ns <= record.arrival_ns
            ]
            assert matched == announced_blocks(heard, look.hashes)


@pytest.mark.parametrize(("gap_ns", "believed"), [(999, 0), (1_000, 8), (1_001, 8)])
def test_an_event_is_known_when_the_delay_is_over(gap_ns: int, believed: int) -> None:
    """Not a nanosecond sooner or later: here a step takes no time, so the event is published at 0."""
    config = fleet(
        latency=FREE,
        workers=1,
        policy="prefix",
        knowledge=Knowledge.EVENTS,
        news=NewsTiming(delay_ns=1_000),
    )
    records = simulate(config, [turn(0, 0, 0, 12, 1), turn(1, gap_ns, 0, 12, 1)]).records
    assert records[1].cached_tokens == 8
    assert records[1].believed_cached_tokens == believed


@law
@given(fleets, workloads)
def test_events_without_delay_are_exact_for_an_idle_worker(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """A busy worker publishes its events when the step has ended; an idle one has none to publish."""
    timing = replace(config.news, delay_ns=0)
    simulation, witness, asked = _watched(config, workload, Knowledge.EVENTS, news=timing)
    workers = shadows(simulation, workload)
    for record in asked:
        look = witness.looks[record.request_id]
        for view, matched, worker in zip(look.workers, look.matched, workers, strict=True):
            if view.in_flight == 0:
                assert matched == cached_blocks(worker.forward(record.arrival_ns), look.hashes)


@pytest.mark.parametrize("knowledge", [Knowledge.EVENTS, Knowledge.HEARTBEAT])
@law
@given(config=fleets, workload=workloads)
def test_heartbeats_tell_a_load_of_the_past(
    knowledge: Knowledge, config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """The load is that of the last heartbeat that is as old as the delay; before the first there is none."""
    simulation, witness, asked = _watched(config, workload, knowledge)
    workers = shadows(simulation, workload)
    timing = config.news
    for record in asked:
        beat_ns = (record.arrival_ns - timing.delay_ns) // timing.heartbeat_ns * timing.heartbeat_ns
        for view, worker in zip(witness.looks[record.request_id].workers, workers, strict=True):
            if beat_ns <= 0:
                assert (view.running, view.waiting, view.kv_usage) == (0, 0, 0.0)
                assert view.age_seconds == math.inf
                continue
            engine = worker.forward(beat_ns)
            assert view.running == len(engine.scheduler.running)
            assert view.waiting == engine.num_waiting
            assert view.kv_usage == engine.scheduler.kv_cache.pool.usage
            assert view.age_seconds == (record.arrival_ns - beat_ns) / 10**9


@law
@given(fleets, workloads)
def test_between_synchronisations_a_heartbeat_router_learns_nothing_of_blocks(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """It knows the blocks of the last full synchronisation that is as old as the delay."""
    simulation, witness, asked = _watched(config, workload, Knowledge.HEARTBEAT)
    workers = shadows(simulation, workload)
    timing = config.news
    for record in asked:
        look = witness.looks[record.request_id]
        synchronised_ns = (
            (record.arrival_ns - timing.delay_ns) // timing.synchronisation_ns * timing.synchronisation_ns
        )
        for matched, worker in zip(look.matched, workers, strict=True):
            if synchronised_ns <= 0:
                assert matched == 0
            else:
                assert matched == cached_blocks(worker.forward(synchronised_ns), look.hashes)


@law
@given(fleets, workloads)
def test_a_router_of_its_own_knows_what_it_sent(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """It takes every prompt to be cached where it went, and hears nothing of any worker."""
    simulation, witness, asked = _watched(config, workload, Knowledge.OWN)
    sent: list[set[object]] = [set() for _ in simulation.workers]
    for record in asked:
        look = witness.looks[record.request_id]
        for view, matched in zip(look.workers, look.matched, strict=True):
            known = [block in sent[view.index] for block in look.hashes]
            assert matched == (known.index(False) if False in known else len(known))
            assert (view.running, view.waiting, view.kv_usage, view.age_seconds) == (0, 0, 0.0, math.inf)
        assert record.worker is not None
        sent[record.worker].update(look.hashes)


def test_a_router_of_its_own_never_reads_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither their load, nor their blocks, nor their events."""

    def forbidden(*_: object) -> None:
        raise AssertionError("the router read a worker")

    monkeypatch.setattr(News, "_load", forbidden)
    monkeypatch.setattr(BlockPool, "cached_hashes", forbidden)
    workload = [turn(i, i * 10**6, i % 2, 20, 10) for i in range(20)]
    config = fleet(
        policy="prefix",
        knowledge=Knowledge.OWN,
        news=NewsTiming(heartbeat_ns=1_000, synchronisation_ns=1_000),
    )
    simulation = simulate(config, workload)
    assert any(record.believed_cached_tokens for record in simulation.records)
    assert not any(worker.engine.records_events for worker in simulation.workers)


@law
@given(fleets, workloads, st.data())
def test_exact_knowledge_does_not_depend_on_when_one_began_to_look(
    config: FleetConfig, workload: list[WorkloadRequest], data: st.DataObject
) -> None:
    """A policy that looks at some requests only sees what one sees that looked at all."""
    config = fleet(config.engine, config.latency, workers=config.num_workers)
    _, always, _ = _watched(config, workload, Knowledge.EXACT)
    names = [request.request_id for request in workload]
    only = frozenset(data.draw(st.sets(st.sampled_from(names)))) if names else frozenset()
    sometimes = Witness(config.choose, only=only)
    simulate(replace(config, choose=sometimes), workload)
    assert sometimes.looks == {name: look for name, look in always.looks.items() if name in only}
