"""Clients that wait for answers: never more of them than there are, and each takes its rest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import ENGINE, MAX_MODEL_LEN, fleet, fleets, law, simulate, turn, workloads

from understudy.fleet import FleetConfig, RequestRecord, summarise
from understudy.workload import ClosedLoop, WorkloadRequest

_concurrencies = st.integers(1, 6)
_think_times_ns = st.sampled_from([0, 1, 5_000, 10**6])


class Audited(ClosedLoop):
    """A closed loop that counts, as they come and go, the requests and the sessions in flight."""

    def __init__(self, workload: list[WorkloadRequest], concurrency: int, think_ns: int) -> None:
        super().__init__(workload, concurrency, think_ns)
        self.most_in_flight = 0
        self._now_in_flight: dict[str, str | None] = {}

    def pop(self) -> WorkloadRequest:
        """Count a request that comes."""
        request = super().pop()
        assert request.session_id is None or request.session_id not in self._now_in_flight.values()
        self._now_in_flight[request.request_id] = request.session_id
        self.most_in_flight = max(self.most_in_flight, len(self._now_in_flight))
        return request

    def finished(self, request_id: str, now_ns: int, /) -> None:
        """Count a request that goes."""
        del self._now_in_flight[request_id]
        super().finished(request_id, now_ns)


def _end_ns(record: RequestRecord) -> int:
    return record.arrival_ns if record.finish_ns is None else record.finish_ns


def _without_sessions(workload: list[WorkloadRequest]) -> list[WorkloadRequest]:
    return [replace(request, session_id=None) for request in workload]


@law
@given(fleets, workloads, _concurrencies, _think_times_ns)
def test_no_more_in_flight_than_clients(
    config: FleetConfig, workload: list[WorkloadRequest], concurrency: int, think_ns: int
) -> None:
    """All requests take place, refused ones too; as many at once as there are clients and sessions, no more."""
    arrivals = Audited(workload, concurrency, think_ns)
    records = simulate(config, arrivals).records
    assert sorted(r.request_id for r in records) == sorted(item.request_id for item in workload)
    assert arrivals.most_in_flight <= concurrency
    assert [r.arrival_ns for r in records] == sorted(r.arrival_ns for r in records)


@law
@given(fleets, workloads, _concurrencies, _think_times_ns)
def test_a_client_sends_again_when_it_has_rested(
    config: FleetConfig, workload: list[WorkloadRequest], concurrency: int, think_ns: int
) -> None:
    """Without sessions in the way: one request a client at the start, and one the think time after each end."""
    workload = _without_sessions(workload)
    records = simulate(config, ClosedLoop(workload, concurrency, think_ns)).records
    starts_ns = sorted([0] * concurrency + [_end_ns(record) + think_ns for record in records])
    assert [record.arrival_ns for record in records] == starts_ns[: len(workload)]
    assert [record.request_id for record in records] == [item.request_id for item in workload]


@law
@given(fleets, workloads, _concurrencies, _think_times_ns)
def test_the_next_turn_of_a_session_waits_for_the_one_before(
    config: FleetConfig, workload: list[WorkloadRequest], concurrency: int, think_ns: int
) -> None:
    """Turns of a session keep their order, and the think time between an answer and the next turn."""
    sessions = {item.request_id: item.session_id for item in workload}
    last_ends_ns: dict[str, int] = {}
    for record in simulate(config, ClosedLoop(workload, concurrency, think_ns)).records:
        session = sessions[record.request_id]
        if session is not None:
            assert record.arrival_ns >= last_ends_ns.get(session, -think_ns) + think_ns
            last_ends_ns[session] = _end_ns(record)


@law
@given(fleets, workloads)
def test_a_client_for_each_request_is_an_open_loop_at_once(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """Nobody waits for an answer then."""
    workload = [replace(request, arrival_ns=0) for request in _without_sessions(workload)]
    closed = simulate(config, ClosedLoop(workload, concurrency=25))
    opened = simulate(config, workload)
    assert closed.records == opened.records
    assert summarise(closed) == summarise(opened)


@pytest.mark.parametrize("async_scheduling", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("think_ns", [0, 700, 20_000])
def test_an_answer_brings_a_request_while_others_go_on(
    workers: int, think_ns: int, *, async_scheduling: bool
) -> None:
    """The next request is read at the end of the step under way, though the others only decode for long."""
    outputs = (5, 50, 5, 5)
    workload = _without_sessions([turn(i, 0, i % 3, 10, tokens) for i, tokens in enumerate(outputs)])
    config = fleet(replace(ENGINE, async_scheduling=async_scheduling), workers=workers)
    records = simulate(config, ClosedLoop(workload, 2, think_ns)).records
    assert max(record.arrival_ns for record in records) < _end_ns(records[1])
    longest_step_ns = 1_500
    for record in records:
        assert record.queued_ns is not None
        assert record.queued_ns - record.arrival_ns < longest_step_ns


def test_refusals_do_not_use_a_client_up() -> None:
    """A refused request is answered at once."""
    workload = [turn(i, 0, 0, MAX_MODEL_LEN if i % 3 else 10, 5) for i in range(30)]
    records = simulate(fleet(), ClosedLoop(workload, concurrency=2, think_ns=10)).records
    assert sum(record.status == "length" for record in records) == 10
    assert sum(record.status == "refused" for record in records) == 20
