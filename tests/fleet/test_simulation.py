"""What happens to requests: all of them, once each, in the order of time, and as long as they may be."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import ENGINE, MAX_MODEL_LEN, fleet, fleets, law, simulate, turn, workloads

from understudy.errors import InputError, PolicyError, UsageError
from understudy.fleet import FleetConfig, Simulation
from understudy.fleet.simulation import MAX_WORKERS
from understudy.routing import Decision
from understudy.workload import OpenLoop, WorkloadRequest


@law
@given(fleets, workloads)
def test_each_arrival_becomes_one_record(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """Records are the arrivals, in their order; nothing is left in flight."""
    simulation = simulate(config, workload)
    assert [(r.serial, r.request_id, r.arrival_ns, r.prompt_tokens) for r in simulation.records] == [
        (serial, item.request_id, item.arrival_ns, item.prompt.num_tokens)
        for serial, item in enumerate(workload)
    ]
    for worker in simulation.workers:
        assert not worker.engine.scheduler.has_requests
        assert worker.next_ns is None
        worker.engine.scheduler.check_integrity()


@law
@given(fleets, workloads)
def test_times_of_a_request_are_in_causal_order(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """Arrival, queued, scheduled, first token, finish; the run ends with the last finish."""
    simulation = simulate(config, workload)
    served = [record for record in simulation.records if record.status != "refused"]
    for record in served:
        times = [record.queued_ns, record.scheduled_ns, record.first_token_ns, record.finish_ns]
        known = [record.arrival_ns, *(time for time in times if time is not None)]
        assert len(known) == 5
        assert known == sorted(known)
        assert record.worker in range(config.num_workers)
    assert simulation.end_ns == max((record.finish_ns or 0 for record in served), default=simulation.start_ns)


@law
@given(fleets, workloads)
def test_a_prompt_that_fills_the_context_is_refused(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """Exactly those prompts are refused that leave no room for a token; nothing ever happens to them."""
    simulation = simulate(config, workload)
    for item, record in zip(workload, simulation.records, strict=True):
        assert (record.status == "refused") == (item.prompt.num_tokens >= MAX_MODEL_LEN)
        if record.status == "refused":
            assert record == (
                record.serial,
                item.request_id,
                "refused",
                item.arrival_ns,
                item.prompt.num_tokens,
                0,
                *[None] * 7,
                0,
                None,
            )


@law
@given(fleets, workloads)
def test_an_answer_is_as_long_as_asked_or_as_the_context_allows(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """Answers that would outgrow the context are cut there and counted."""
    simulation = simulate(config, workload)
    pairs = [
        (item, record)
        for item, record in zip(workload, simulation.records, strict=True)
        if record.status != "refused"
    ]
    for item, record in pairs:
        assert record.status == "length"
        assert record.output_tokens == min(item.output_tokens, MAX_MODEL_LEN - record.prompt_tokens)
    assert simulation.num_shortened == sum(
        record.output_tokens < item.output_tokens for item, record in pairs
    )


@law
@given(fleets, workloads)
def test_what_was_cached_is_whole_blocks_short_of_the_prompt(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """At least one token is computed; what the router believes obeys the same limits."""
    for record in simulate(config, workload).records:
        for tokens in (record.cached_tokens, record.believed_cached_tokens):
            if tokens is not None:
                assert 0 <= tokens < record.prompt_tokens
                assert tokens % config.engine.block_size == 0


@law
@given(fleets, workloads)
def test_one_sequence_at_a_time(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """With `max_num_seqs=1` a worker starts a request only when the one before it has finished."""
    simulation = simulate(replace(config, engine=replace(config.engine, max_num_seqs=1)), workload)
    for worker in simulation.workers:
        times = sorted(
            (record.scheduled_ns, record.finish_ns)
            for record in simulation.records
            if record.worker == worker.index
            and record.scheduled_ns is not None
            and record.finish_ns is not None
        )
        for (_, finish_ns), (scheduled_ns, _) in pairwise(times):
            assert scheduled_ns >= finish_ns
        assert max(worker.timeline.series(1, simulation.end_ns).running, default=0.0) <= 1.0


@law
@given(fleets, workloads, st.text(max_size=3))
def test_the_hash_seed_changes_no_decision(
    config: FleetConfig, workload: list[WorkloadRequest], seed: str
) -> None:
    """It renames blocks; which prompts share them stays the same."""
    assert simulate(config, workload).records == simulate(replace(config, hash_seed=seed), workload).records


def test_an_answer_shorter_than_a_block_is_found_again_whatever_the_hash_seed() -> None:
    """A first block that is filled by the answer begins the chain of hashes as the router begins it."""
    workload = [turn(0, 0, 0, prompt_tokens=2, output_tokens=12), turn(1, 10**9, 0, 14, 1)]
    for seed in ("one", "another"):
        records = simulate(fleet(workers=1, policy="prefix", hash_seed=seed), workload).records
        assert records[1].cached_tokens == records[1].believed_cached_tokens == 12


def test_a_prompt_that_is_all_cached_computes_its_last_block() -> None:
    """The router believes what the engine can use: one block less than it holds."""
    workload = [turn(serial, serial * 10**9, 0, 12, 1) for serial in range(2)]
    records = simulate(fleet(workers=1, policy="prefix"), workload).records
    assert [(record.cached_tokens, record.believed_cached_tokens) for record in records] == [(0, 0), (8, 8)]


def test_progress_counts_arrivals() -> None:
    """`on_arrival` is told 1, 2, ... with refused requests among them."""
    counts: list[int] = []
    workload = [turn(0, 0, 0, 10, 1), turn(1, 0, 0, MAX_MODEL_LEN, 1), turn(2, 5, 0, 10, 1)]
    Simulation(fleet(), OpenLoop(workload)).run(counts.append)
    assert counts == [1, 2, 3]


def test_an_id_may_come_back_when_its_request_has_finished() -> None:
    """Also where no policy looks at the fleet, so that nobody has brought the worker forward since."""
    workload = [turn(0, 0, 0, 10, 1), turn(0, 10**9, 0, 10, 1)]
    assert [r.status for r in simulate(fleet(), workload).records] == ["length", "length"]


@pytest.mark.parametrize("prompt_tokens", [10, MAX_MODEL_LEN])
def test_an_id_in_flight_must_not_come_again(prompt_tokens: int) -> None:
    """Two requests with one id in flight cannot be told apart: the workload is at fault, refused or not."""
    with pytest.raises(
        InputError, match=r"^request id 'r0' arrives again before the first one has finished$"
    ):
        simulate(fleet(), [turn(0, 0, 0, 10, 30), turn(0, 1, 0, prompt_tokens, 1)])


def test_a_cache_salt_needs_token_ids() -> None:
    """Segments name equal texts; a salt could not make them different."""
    salted = replace(turn(0, 0, 0, 10, 1, kind="segments"), cache_salt="pepper")
    with pytest.raises(InputError, match=r"^request 'r0': a cache salt needs a prompt of token ids$"):
        simulate(fleet(), [salted])


def test_a_cache_salt_keeps_equal_prompts_apart() -> None:
    """Only requests with the same salt share blocks."""
    salts = (None, "a", "b", "a", None)
    workload = [replace(turn(i, i * 10**9, 0, 13, 1), cache_salt=salt) for i, salt in enumerate(salts)]
    records = simulate(fleet(workers=1, policy="prefix"), workload).records
    assert [record.cached_tokens for record in records] == [0, 0, 0, 12, 12]
    assert [record.believed_cached_tokens for record in records] == [0, 0, 0, 12, 12]


def _raises(*_: object) -> Decision:
    raise ZeroDivisionError("two\nlines")


@pytest.mark.parametrize(
    "choose",
    [
        _raises,
        lambda *_: 3,
        lambda *_: -1,
        lambda *_: "w0",
        lambda *_: None,
        lambda *_: True,
        lambda *_: Decision(0, 99, "more blocks than the prompt has"),
    ],
)
def test_a_bad_policy_is_told_in_one_line(choose: Callable[..., Decision]) -> None:
    """The error names the policy and the request; it is the user's to mend."""
    with pytest.raises(PolicyError, match=r"^policy 'mine' .*'r0'[^\n]*$"):
        simulate(fleet(policy="mine", choose=choose), [turn(0, 0, 0, 10, 1)])


@pytest.mark.parametrize("workers", [0, -1, MAX_WORKERS + 1])
def test_a_fleet_has_a_sensible_size(workers: int) -> None:
    """Others are refused with the limits."""
    with pytest.raises(UsageError, match=rf"from 1 to {MAX_WORKERS}, got {workers}$"):
        fleet(workers=workers)


def test_an_empty_workload_gives_an_empty_result() -> None:
    """No time passes."""
    simulation = simulate(fleet(ENGINE), [])
    assert simulation.records == []
    assert simulation.end_ns == 0
