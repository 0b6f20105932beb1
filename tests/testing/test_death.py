"""A server in process whose engine dies."""

import pytest
from tests.testing.client import ask, completion

from understudy.server.faults import Crash
from understudy.testing import ClockKind, ServerHandle, start_server

MESSAGE = "The server had an error while processing your request."


def _break(server: ServerHandle) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    engine = server._server.worker.frontend.loop.engines[0]
    engine.scheduler.schedule = broken  # type: ignore[assignment]  # broken on purpose


@pytest.mark.parametrize("clock", ["free", "manual", "real"])
def test_it_serves_no_more_until_it_is_reset(clock: ClockKind) -> None:
    """Who waits is told, everybody else is refused as by a process that has ended, whatever faults say; a reset is a new start."""
    with start_server(clock=clock) as server:
        assert ask(server.url, "/health").status == 200
        _break(server)
        with completion(server, max_tokens=5) as whole:
            if clock == "manual":
                # Only a clock that stands still lets another one come before the engine dies of the first.
                with completion(server, stream=True) as stream:
                    server.wait_for_requests(2)
                    server.clock.advance(1)
                    assert MESSAGE.encode() in stream.finish().body
            answer = whole.finish()
            assert (answer.status, answer.json["error"]["message"]) == (500, MESSAGE)
        server.clock.run_until_idle()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                ask(server.url, "/health")
            server.faults.set([Crash(for_seconds=0)])
        server.reset()
        assert ask(server.url, "/health").status == 200
        with completion(server, max_tokens=2) as again:
            server.wait_for_requests(1)
            server.clock.run_until_idle()
            assert again.finish().status == 200
