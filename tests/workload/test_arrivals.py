"""Open and closed loops: who may send when, and that every request is sent once."""

from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.engine import TokenPrompt
from understudy.errors import InputError, UsageError
from understudy.workload import Arrivals, ClosedLoop, OpenLoop, WorkloadRequest
from understudy.workload import arrivals as arrivals_module


class Sent(NamedTuple):
    """One request on its way through the server of a test."""

    request_id: str
    session_id: str | None
    start_ns: int
    end_ns: int


def request(index: int, *, session_id: str | None = None, arrival_ns: int = 0) -> WorkloadRequest:
    """Return a request that is known by its number."""
    return WorkloadRequest(
        request_id=str(index),
        arrival_ns=arrival_ns,
        prompt=TokenPrompt((1,)),
        output_tokens=1,
        session_id=session_id,
    )


def serve(arrivals: Arrivals, service_ns: Sequence[int]) -> list[Sent]:
    """Answer each request after its own time, in the order of time; 0 means refused at once."""
    sent: list[Sent] = []
    busy: list[tuple[int, str]] = []
    while True:
        arrival_ns = arrivals.peek_ns()
        if arrival_ns is not None and (not busy or arrival_ns <= busy[0][0]):
            item = arrivals.pop()
            assert item.arrival_ns == arrival_ns
            end_ns = arrival_ns + service_ns[int(item.request_id)]
            sent.append(Sent(item.request_id, item.session_id, arrival_ns, end_ns))
            if end_ns == arrival_ns:
                arrivals.finished(item.request_id, end_ns)
            else:
                heappush(busy, (end_ns, item.request_id))
        elif busy:
            end_ns, request_id = heappop(busy)
            arrivals.finished(request_id, end_ns)
        else:
            return sent


services = st.lists(st.integers(0, 20), max_size=40)
concurrencies = st.integers(1, 5)
thinks_ns = st.integers(0, 10)


@settings(deadline=None)
@given(services, st.data(), concurrencies, thinks_ns)
def test_a_closed_loop_keeps_its_promises(
    service_ns: list[int], data: st.DataObject, concurrency: int, think_ns: int
) -> None:
    """All are sent once, in order as far as sessions allow, and nobody does two things at a time."""
    sessions = [data.draw(st.sampled_from([None, "a", "b", "c"])) for _ in service_ns]
    workload = [request(index, session_id=session) for index, session in enumerate(sessions)]
    sent = serve(ClosedLoop(workload, concurrency, think_ns), service_ns)
    assert Counter(item.request_id for item in workload) == Counter(item.request_id for item in sent)
    assert all(earlier.start_ns <= later.start_ns for earlier, later in pairwise(sent))
    for index, item in enumerate(sent):
        engaged = [other for other in sent[:index] if other.end_ns + think_ns > item.start_ns]
        assert len(engaged) < concurrency
        if item.session_id is not None:
            assert item.session_id not in {other.session_id for other in engaged}
        # Whether a session that is free from this very moment was so before it is anybody's guess.
        held_up = {other.session_id for other in sent[:index] if other.end_ns + think_ns >= item.start_ns}
        passed_over = [other for other in sent[index + 1 :] if int(other.request_id) < int(item.request_id)]
        assert {other.session_id for other in passed_over} <= held_up - {None}
    for session in ("a", "b", "c"):
        order = [int(item.request_id) for item in sent if item.session_id == session]
        assert order == sorted(order)


@settings(deadline=None)
@given(services, concurrencies, thinks_ns)
def test_no_client_idles_while_there_is_work(service_ns: list[int], concurrency: int, think_ns: int) -> None:
    """Without sessions, each request goes to the client that is free first, at that very time."""
    sent = serve(ClosedLoop(map(request, range(len(service_ns))), concurrency, think_ns), service_ns)
    free_ns = [0] * concurrency
    for item, duration_ns in zip(sent, service_ns, strict=True):
        assert item.start_ns == free_ns[0]
        heapreplace(free_ns, item.start_ns + duration_ns + think_ns)


@settings(deadline=None)
@given(services, concurrencies, st.integers(1, 3))
def test_a_session_waits_without_holding_up_others(
    service_ns: list[int], concurrency: int, turns: int
) -> None:
    """With as many clients as sessions, every session goes through its turns without a pause."""
    num_sessions = -(-len(service_ns) // turns)
    workload = [request(index, session_id=str(index % num_sessions)) for index in range(len(service_ns))]
    sent = serve(ClosedLoop(workload, max(concurrency, num_sessions, 1)), service_ns)
    for session in range(num_sessions):
        items = [item for item in sent if item.session_id == str(session)]
        assert [item.start_ns for item in items] == [0, *(item.end_ns for item in items[:-1])]


@settings(deadline=None)
@given(services, concurrencies)
def test_looking_ahead_has_a_limit(service_ns: list[int], concurrency: int) -> None:
    """Of one session's requests no more than MAX_PARKED are read ahead, and all are still sent."""
    num_read = num_ended = 0

    def workload() -> Sequence[WorkloadRequest]:
        return [request(index, session_id="a") for index in range(len(service_ns))]

    def counted() -> object:
        nonlocal num_read
        for item in workload():
            num_read += 1
            assert num_read <= num_ended + 5
            yield item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrivals_module, "MAX_PARKED", 3)
        loop = ClosedLoop(counted(), concurrency)  # type: ignore[arg-type]
        end = loop.finished

        def finished(request_id: str, now_ns: int, /) -> None:
            nonlocal num_ended
            num_ended += 1
            end(request_id, now_ns)

        patch.setattr(loop, "finished", finished)
        assert len(serve(loop, service_ns)) == len(service_ns)


def test_ten_thousand_refusals_in_a_row_are_no_recursion() -> None:
    """A refused request frees its client at once, however many come one after another."""
    count = 10_000
    sent = serve(ClosedLoop(map(request, range(count)), 1), [0] * count)
    assert [str(index) for index in range(count)] == [item.request_id for item in sent]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**18)).map(sorted))
def test_an_open_loop_gives_the_requests_as_they_are(times_ns: list[int]) -> None:
    """Every request comes at its own time, whatever is answered; peeking twice changes nothing."""
    workload = [request(index, arrival_ns=time_ns) for index, time_ns in enumerate(times_ns)]
    loop = OpenLoop(workload)
    given_out = []
    while (time_ns := loop.peek_ns()) is not None:
        assert loop.peek_ns() == time_ns
        given_out.append(loop.pop())
        loop.finished(given_out[-1].request_id, time_ns)
        assert time_ns == given_out[-1].arrival_ns
    assert given_out == workload


@pytest.mark.parametrize("times_ns", [(5, 4), (-1,), (10**18 + 1,)])
def test_an_open_loop_refuses_times_that_cannot_be(times_ns: tuple[int, ...]) -> None:
    """Times that run back, are negative or beyond the limit are the caller's error."""
    loop = OpenLoop(request(index, arrival_ns=time_ns) for index, time_ns in enumerate(times_ns))
    for _ in times_ns[:-1]:
        loop.peek_ns()
        loop.pop()
    with pytest.raises(InputError, match="must arrive between"):
        loop.peek_ns()


@pytest.mark.parametrize(("concurrency", "think_ns"), [(0, 0), (-1, 0), (1, -1)])
def test_a_closed_loop_refuses_settings_that_cannot_be(concurrency: int, think_ns: int) -> None:
    """There must be a client, and nobody thinks for less than no time."""
    with pytest.raises(UsageError):
        ClosedLoop([], concurrency, think_ns)
