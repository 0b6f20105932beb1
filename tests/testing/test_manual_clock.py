"""A clock that the test moves: nothing happens before its time, and all of it at its time."""

import json
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from tests.testing.client import Exchange, ask, completion, manual_server

from understudy.errors import UsageError
from understudy.fleet import EngineChoices, LatencyChoices
from understudy.fleet.setup import engine_setup
from understudy.latency import PrefillChunk, StepShape
from understudy.testing import ServerHandle, start_server

NS = 1e-9
MODEL = engine_setup("llama-3.1-8b", "h100", EngineChoices(), LatencyChoices()).latency


@pytest.fixture
def server() -> Iterator[ServerHandle]:
    """Yield a server whose clock is moved by hand."""
    with manual_server() as server:
        yield server


def _prefill_seconds(num_tokens: int) -> float:
    return MODEL.step_ns(StepShape([PrefillChunk(num_tokens, 0, 0, num_tokens)], 0, 0)) * NS


def _decode_seconds() -> float:
    return MODEL.step_ns(StepShape([], 1, 100)) * NS


@pytest.mark.parametrize("num_tokens", [1, 16, 333, 8192])
def test_a_client_sees_every_token_at_the_latency_models_time(server: ServerHandle, num_tokens: int) -> None:
    """A nanosecond before a token's time its event is not there, at its time it is."""
    with completion(server, prompt=[7] * num_tokens, stream=True) as stream:
        server.wait_for_requests(1)
        for token, after_seconds in enumerate([_prefill_seconds(num_tokens), *[_decode_seconds()] * 3]):
            server.clock.advance(after_seconds - NS)
            assert stream.num_events() == token
            server.clock.advance(NS)
            assert stream.num_events() >= token + 1
    expected = _prefill_seconds(num_tokens)
    assert server.metrics().total("vllm:time_to_first_token_seconds_sum") == pytest.approx(
        expected, abs=1e-12
    )


def test_nothing_but_headers_comes_before_the_clock_moves(server: ServerHandle) -> None:
    """However long one waits outside."""
    with completion(server, stream=True) as stream, completion(server) as whole:
        server.wait_for_requests(2)
        head, _, body = stream.received().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == b""
        assert whole.received() == b""
        assert server.clock.now_seconds == 0.0
        server.clock.run_until_idle()
        assert stream.finish().text == whole.finish().text


def test_one_long_advance_is_many_small_ones(server: ServerHandle) -> None:
    """The steps in between are taken at their own times, whatever the stride."""
    sums = []
    for strides in ([0.5], [0.001] * 500):
        with completion(server, prompt=[1] * 40, max_tokens=20) as request:
            server.wait_for_requests(1)
            for stride in strides:
                server.clock.advance(stride)
            request.finish()
        metrics = server.metrics()
        sums.append(
            (metrics.total("vllm:e2e_request_latency_seconds_sum"), round(server.clock.now_seconds, 9))
        )
        server.reset()
    assert sums[0] == sums[1]
    assert sums[0][1] == 0.5


def test_a_step_by_which_time_stops_leaves_the_rest_for_later(server: ServerHandle) -> None:
    """Time that runs out is told, and what was not due yet can still be had."""
    with completion(server, max_tokens=50) as request:
        server.wait_for_requests(1)
        with pytest.raises(TimeoutError, match=r"due after 0\.1 seconds"):
            server.clock.run_until_idle(max_seconds=0.1)
        assert request.received() == b""
        end_seconds = server.clock.run_until_idle()
        assert end_seconds == pytest.approx(_prefill_seconds(1) + 49 * _decode_seconds(), rel=1e-9)
        assert request.finish().status == 200


def test_requests_of_other_threads_are_awaited_not_raced(server: ServerHandle) -> None:
    """Clients in threads block while the test waits for their requests, then all are answered at once."""
    answers: dict[int, bytes] = {}

    def client(number: int) -> None:
        body = json.dumps({"model": server.model, "prompt": [number] * 20_000, "max_tokens": 3}).encode()
        request = urllib.request.Request(  # noqa: S310 - an address of ours
            f"{server.base_url}/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            answers[number] = answer.read()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    server.wait_for_requests(8)
    metrics = server.metrics()
    waiting = metrics.total("vllm:num_requests_waiting") + metrics.total("vllm:num_requests_running")
    assert answers == {}
    assert waiting == 0, "metrics show what the last step that ended left"
    server.clock.run_until_idle()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(8))
    assert server.metrics().total("vllm:request_success_total") == 8


def test_a_long_prompt_is_tokenized_before_it_counts_as_arrived(server: ServerHandle) -> None:
    """Work outside the loop's own thread would be a race; a text of a megabyte is queued when the wait is over."""
    with completion(server, prompt="word " * 100_000, max_tokens=1) as request:
        server.wait_for_requests(1)
        server.clock.run_until_idle()
        assert request.finish().json["usage"]["prompt_tokens"] > 100_000


def test_waiting_for_requests_that_do_not_come_ends(server: ServerHandle) -> None:
    """With the numbers; probes do not count."""
    ask(server.url, "/health")
    with (
        completion(server),
        pytest.raises(TimeoutError, match=r"1 of 2 requests arrived within 0\.2 seconds"),
    ):
        server.wait_for_requests(2, timeout_seconds=0.2)


def test_what_arrived_is_there_for_assertions(server: ServerHandle) -> None:
    """Method, path, headers, body and status of each, oldest first; a status comes when the answer begins."""
    with completion(server, prompt="A") as waits, Exchange(server.url, "/v1/completions?x=1", b"{") as bad:
        bad.finish()
        server.wait_for_requests(2)
        ask(server.url, "/nowhere", X_Trace="7")
        by_path = {request.path: request for request in server.requests}
        assert len(server.requests) == 3
        assert by_path["/v1/completions"].body["prompt"] == "A"
        assert by_path["/v1/completions"].status is None
        assert by_path["/v1/completions?x=1"].body is None
        assert by_path["/v1/completions?x=1"].status == 400
        nowhere = by_path["/nowhere"]
        assert (nowhere.method, nowhere.status, nowhere.headers["x-trace"]) == ("GET", 404, "7")
        server.clock.run_until_idle()
        waits.finish()
        assert {request.status for request in server.requests} == {200, 400, 404}


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e300, "a", None])
def test_only_forward_and_only_so_far(server: ServerHandle, seconds: object) -> None:
    """A clock cannot be moved back, nor for ever, nor by what is no number."""
    with pytest.raises(UsageError, match="seconds must be a number from 0 to 1,000,000,000, got"):
        server.clock.advance(seconds)  # type: ignore[arg-type]  # what a test may give by mistake
    with pytest.raises(UsageError, match="max_seconds must be a number from 0 to"):
        server.clock.run_until_idle(seconds)  # type: ignore[arg-type]  # the same
    assert server.clock.now_seconds == 0


@pytest.mark.parametrize("kind", ["free", "real"])
def test_other_clocks_move_by_themselves(kind: str) -> None:
    """They answer without a hand on them, and refuse one."""
    scale = ["--time-scale", "0.01"] if kind == "real" else []
    with start_server(*scale, clock=kind) as server:  # type: ignore[arg-type]  # one of them
        assert completion(server).finish().status == 200
        assert server.clock.run_until_idle() > 0
        with pytest.raises(UsageError, match=f"a {kind} clock moves by itself"):
            server.clock.advance(1)


def test_free_time_is_the_models_time() -> None:
    """A request that is alone takes the seconds of the latency model, though nobody waits for them."""
    with start_server("--simulated-time-headers", clock="free") as server:
        answer = completion(server, prompt=[1] * 160, max_tokens=1).finish()
        first = float(answer.headers["x-understudy-first-token-seconds"])
        arrival = float(answer.headers["x-understudy-arrival-seconds"])
        assert first - arrival == pytest.approx(_prefill_seconds(160), abs=1e-9)
