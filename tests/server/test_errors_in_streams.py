"""What a stream says of an engine that is paused or dies: the bytes that `vllm serve` 0.33 was seen to send."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.testing.client import Exchange, ask

from understudy.testing import ServerHandle, start_server

PAUSED = "Generation is paused. Please retry after it resumes."
DEAD = "The server had an error while processing your request."
DONE = "data: [DONE]\n\n"

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 500},
    "/v1/completions": {"prompt": "hi", "max_tokens": 500},
    "/inference/v1/generate": {"token_ids": [1], "sampling_params": {"max_tokens": 500}},
    "/v1/responses": {"input": "hi", "max_output_tokens": 500},
}
KINDS = {
    "/v1/chat/completions": "InternalServerError",
    "/v1/completions": "ServiceUnavailableError",
    "/inference/v1/generate": "ServiceUnavailableError",
}


@pytest.fixture
def server() -> Iterator[ServerHandle]:
    """Yield a server that an operator may pause, with all routes, whose clock stands still."""
    with start_server(
        "--enable-scale-out", clock="manual", environment={"VLLM_SERVER_DEV_MODE": "1"}
    ) as server:
        yield server


def _event(path: str, message: str, kind: str, code: int) -> str:
    """Return the event of an error, compact among chat chunks and spaced elsewhere."""
    if path == "/v1/chat/completions":
        error = f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":{code}}}}}'
    else:
        error = f'{{"error": {{"message": "{message}", "type": "{kind}", "param": null, "code": {code}}}}}'
    return f"data: {error}\n\n"


def _stream(server: ServerHandle, path: str) -> Exchange:
    return Exchange(server.url, path, {"model": server.model, "stream": True} | BODIES[path])


def _break(server: ServerHandle) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    engine = server._server.worker.frontend.loop.engines[0]
    engine.scheduler.schedule = broken  # type: ignore[assignment]  # broken on purpose


@pytest.mark.parametrize("path", BODIES)
def test_a_whole_answer_is_unavailable_while_the_engine_is_paused(server: ServerHandle, path: str) -> None:
    """With 503."""
    assert ask(server.url, "/pause", {}).status == 200
    answer = ask(server.url, path, {"model": server.model} | BODIES[path])
    assert (answer.status, answer.json["error"]) == (
        503,
        {"message": PAUSED, "type": "ServiceUnavailableError", "param": None, "code": 503},
    )


@pytest.mark.parametrize("path", KINDS)
def test_a_stream_tells_that_the_engine_is_paused(server: ServerHandle, path: str) -> None:
    """As its only event; among chat chunks it is an internal error."""
    assert ask(server.url, "/pause", {}).status == 200
    answer = _stream(server, path).finish()
    assert (answer.status, answer.is_whole) == (200, True)
    assert answer.body.decode() == _event(path, PAUSED, KINDS[path], 503) + DONE


@pytest.mark.parametrize("path", KINDS)
def test_a_stream_tells_that_the_engine_has_died(server: ServerHandle, path: str) -> None:
    """Behind what came before, as an internal error."""
    with _stream(server, path) as stream:
        server.wait_for_requests(1)
        server.clock.advance(1)
        before = stream.num_events()
        assert 1 < before < 500
        _break(server)
        server.clock.advance(1)
        answer = stream.finish()
    assert answer.is_whole
    assert answer.body.decode().endswith("\n\n" + _event(path, DEAD, "InternalServerError", 500) + DONE)
    assert answer.body.count(b"data: ") == before + 2


@pytest.mark.parametrize("dies", [False, True])
def test_a_stream_of_a_response_breaks_off(server: ServerHandle, dies: bool) -> None:  # noqa: FBT001 # a parameter
    """There is no event for either; what came before is there, but not the end of the answer."""
    if not dies:
        assert ask(server.url, "/pause", {}).status == 200
    with _stream(server, "/v1/responses") as stream:
        server.wait_for_requests(1 if dies else 2)
        server.clock.advance(1)
        before = stream.num_events()
        if dies:
            _break(server)
            server.clock.advance(1)
        answer = stream.finish()
    assert (answer.status, answer.is_whole) == (200, False)
    assert answer.body.count(b"event: ") == before
    assert (before > 2) is dies
    assert answer.body.count(b"event: response.in_progress\n") == 1
    assert b"error" not in answer.body.replace(b'"error":null', b"")
