"""Faults by a handle: at the times of a clock that the test moves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from tests.testing.client import SECONDS, Exchange, ask, complete, completion, manual_server
from tests.testing.events import read, subscribe

from understudy.errors import InputError
from understudy.server.faults import Cut, FaultPlan, HttpError, Slow
from understudy.testing import ServerHandle, start_server

NS = 1e-9


@pytest.fixture
def server() -> Iterator[ServerHandle]:
    """Yield a server whose clock is moved by hand."""
    with manual_server() as server:
        yield server


def _seconds(server: ServerHandle) -> float:
    """Return how long one request takes from now to idle."""
    start = server.clock.now_seconds
    complete(server, prompt=[7] * 64)
    return server.clock.now_seconds - start


@pytest.mark.parametrize(
    "faults",
    [
        [{"kind": "error", "status": 503}],
        [HttpError(status=503)],
        {"seed": 3, "faults": [{"kind": "error", "status": 503, "rate": 1.0}]},
        FaultPlan(faults=(HttpError(status=503),)),
    ],
)
def test_a_plan_is_given_in_any_form(server: ServerHandle, faults: object) -> None:
    """As objects or as data, whole or as a list; cleared, nothing is left of it."""
    server.faults.set(faults)  # type: ignore[arg-type]  # each of the forms
    assert server.faults.plan.faults == (HttpError(status=503, at_seconds=0),)
    assert completion(server).finish().status == 503
    server.faults.clear()
    assert complete(server).status == 200


def test_what_is_no_plan_is_refused_and_changes_nothing(server: ServerHandle) -> None:
    """With the field that is wrong."""
    server.faults.set([Slow()])
    with pytest.raises(InputError, match=r"no fault plan: .*faults\[0\]"):
        server.faults.set([{"kind": "slow", "factor": -1}])
    assert server.faults.plan == FaultPlan(faults=(Slow(at_seconds=0),))


@pytest.mark.parametrize("fault", [{"kind": "error"}, HttpError()])
def test_a_fault_without_its_list_is_refused_with_a_hint(server: ServerHandle, fault: object) -> None:
    """The sentence shows a list."""
    with pytest.raises(InputError, match="give a list of faults") as raised:
        server.faults.set(fault)  # type: ignore[arg-type]  # the mistake
    assert '[{"kind": "error"}]' in str(raised.value)


@pytest.mark.parametrize("fault", [{"kind": "crash"}, {"kind": "refuse", "for_seconds": 10}])
def test_a_fault_without_a_time_begins_when_it_is_set(server: ServerHandle, fault: dict[str, Any]) -> None:
    """However long the server has run; it lasts from then on, and the plan shows since when."""
    server.clock.advance(20)
    server.faults.set([fault])
    assert [fault.at_seconds for fault in server.faults.plan.faults] == [20]
    server.clock.advance(10 - NS)
    with pytest.raises(ConnectionRefusedError):
        ask(server.url, "/health")
    server.clock.advance(NS)
    assert ask(server.url, "/health").status == 200
    assert server.metrics().total("understudy:faults_injected_total", kind=fault["kind"]) == 1


def test_a_time_that_is_given_counts_from_the_start(server: ServerHandle) -> None:
    """A window that is over when the plan is set does nothing."""
    server.clock.advance(20)
    server.faults.set([{"kind": "refuse", "at_seconds": 0, "for_seconds": 20}])
    assert ask(server.url, "/health").status == 200


def test_slow_steps_take_exactly_as_much_longer(server: ServerHandle) -> None:
    """By the factor, to the nanosecond."""
    normal = _seconds(server)
    server.reset()
    server.faults.set([{"kind": "slow", "factor": 3}])
    assert _seconds(server) == pytest.approx(3 * normal, abs=1e-8)


def test_a_crash_strikes_at_its_time_and_ends_at_its_time(server: ServerHandle) -> None:
    """Until then all goes well, then every connection is broken and refused, then it serves again with a cold cache."""
    server.faults.set([{"kind": "crash", "at_seconds": 0.02, "for_seconds": 1.5}])
    with completion(server, max_tokens=100, stream=True) as stream:
        server.wait_for_requests(1)
        server.clock.advance(0.02 - NS)
        assert stream.num_events() > 0
        server.clock.advance(NS)
        assert stream.is_broken()
    server.clock.advance(1.5 - NS)
    with pytest.raises(ConnectionRefusedError):
        ask(server.url, "/health")
    server.clock.advance(NS)
    assert ask(server.url, "/health").status == 200
    metrics = server.metrics()
    assert metrics.total("vllm:num_requests_running") == 0
    assert metrics.total("understudy:faults_injected_total", kind="crash") == 1


def test_a_crash_shorter_than_any_stride_strikes_all_the_same(server: ServerHandle) -> None:
    """It cannot fall between two moments that the clock is moved to."""
    server.faults.set([{"kind": "crash", "at_seconds": 1.0, "for_seconds": 0.001}])
    with Exchange(server.url, "/health", Connection="keep-alive") as idle:
        server.clock.advance(0)
        answer = idle.received()
        server.clock.advance(10)
        assert idle.received() == answer
        assert idle.is_closed()
    assert ask(server.url, "/health").status == 200
    assert server.metrics().total("understudy:faults_injected_total", kind="crash") == 1


def test_refused_connections_leave_open_ones_alone(server: ServerHandle) -> None:
    """What is in work goes on while nobody new comes in."""
    with completion(server, stream=True, max_tokens=8) as stream:
        server.wait_for_requests(1)
        server.faults.set([{"kind": "refuse", "for_seconds": 60}])
        with pytest.raises(ConnectionRefusedError):
            ask(server.url, "/health")
        server.clock.advance(1)
        assert stream.finish().is_whole
    server.clock.advance(59)
    assert ask(server.url, "/health").status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_stall_is_over_when_the_clock_says_so(server: ServerHandle, *, stream: bool) -> None:
    """Streamed or whole, an answer stands still for the seconds of the engine's clock, not the wall's."""
    server.faults.set([{"kind": "stall", "after_tokens": 2, "stall_seconds": 30}])
    with completion(server, stream=stream, max_tokens=6) as request:
        server.wait_for_requests(1)
        server.clock.advance(5)
        before = request.received()
        assert before.count(b"data: ") == (2 if stream else 0)
        server.clock.advance(24)
        assert request.received() == before
        end_seconds = server.clock.run_until_idle()
        assert 30 <= end_seconds < 31
        answer = request.finish()
        assert answer.status == 200
        assert answer.is_whole


def test_a_stall_without_end_lasts_until_the_client_leaves(server: ServerHandle) -> None:
    """No time of the clock ends it, and nothing is left of the request when the client has gone."""
    server.faults.set([{"kind": "stall", "after_tokens": 1}])
    with completion(server, stream=True, max_tokens=500) as stream:
        server.wait_for_requests(1)
        server.clock.advance(1)
        assert stream.num_events() == 1
    server.clock.run_until_idle()
    assert server.metrics().total("vllm:num_requests_running") == 0


def test_a_cut_ends_a_stream_in_the_middle(server: ServerHandle) -> None:
    """After its tokens, without the last chunk."""
    server.faults.set([Cut(after_tokens=3)])
    with completion(server, stream=True, max_tokens=50) as stream:
        server.wait_for_requests(1)
        server.clock.run_until_idle()
        assert stream.num_events() == 3
        assert b"[DONE]" not in stream.received()


def test_late_events_come_when_the_clock_says_so(tmp_path: Path) -> None:
    """A batch that is delayed by two seconds of the engine is not there before them, and is there after them."""
    config = {"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/kv"}
    with (
        manual_server(kv_events_config=config) as server,
        zmq.Context() as context,
        context.socket(zmq.SUB) as subscriber,
    ):
        endpoint = server.kv_events_endpoint
        assert endpoint is not None
        subscribe(subscriber, endpoint, server)
        server.faults.set([{"kind": "events", "delay": 1.0, "delay_seconds": 2}])
        num_before = len(server.requests)
        with completion(server, prompt=[5] * 64, max_tokens=1) as request:
            server.wait_for_requests(num_before + 1)
            server.clock.advance(1.9)
            request.finish()
            assert subscriber.poll(50) == 0
            server.clock.advance(0.2)
            assert subscriber.poll(int(SECONDS * 1000)) == zmq.POLLIN
            assert b"BlockStored" in subscriber.recv_multipart()[2]


def test_where_nothing_waits_late_events_come_with_the_work_of_others(tmp_path: Path) -> None:
    """Not before; as soon as that has taken the engine's clock beyond their seconds."""
    config = {"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/kv"}
    with (
        start_server(clock="free", kv_events_config=config) as server,
        zmq.Context() as context,
        context.socket(zmq.SUB) as subscriber,
    ):
        endpoint = server.kv_events_endpoint
        assert endpoint is not None
        subscribe(subscriber, endpoint, server)
        server.faults.set([{"kind": "events", "delay": 1.0, "delay_seconds": 10 * SECONDS}])
        complete(server, prompt=[5] * 64, max_tokens=1)
        assert subscriber.poll(50) == 0
        server.faults.clear()
        before_seconds = server.clock.now_seconds
        while server.clock.now_seconds - before_seconds < 10 * SECONDS:
            complete(server, prompt=[5] * 64, max_tokens=5000)
        numbers = [number for number, _ in read(subscriber)]
        late = min(numbers)
        assert numbers.index(late) > 0
        assert sorted(numbers) == list(range(late, late + len(numbers)))
