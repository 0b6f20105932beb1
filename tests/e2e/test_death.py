"""`understudy serve` whose engine dies, as a process."""

import json
import socket

import pytest
from tests.e2e.served import MODEL, SERVE, served

DEADLY_STEP = 6
BODY = {"prompt": "hi", "max_tokens": 500}
MORTAL = (
    "-c",
    f"""
import sys
from understudy.engine import Engine
live, steps = Engine.step, iter(range({DEADLY_STEP}))

def step(self, at_ns):
    if next(steps, None) is None:
        raise ZeroDivisionError("the bug")
    return live(self, at_ns)

Engine.step = step
sys.argv[0] = "understudy"
from understudy.cli.main import run
run()
""",
    *SERVE[2:],
)


@pytest.mark.parametrize(
    ("flags", "status"), [((), 0), (("--data-parallel-size", "2"), 1), (("--time-scale", "0"), 0)]
)
def test_everybody_is_told_and_the_process_ends(flags: tuple[str, ...], status: int) -> None:
    """A stream and a whole answer get vLLM's error, the log the reason; the status is that of vLLM."""
    with served(*flags, command=MORTAL) as server:
        server.wait_until_it_serves()
        stream = server.request("/v1/completions", BODY | {"stream": True})
        whole = server.request("/v1/completions", BODY)
        assert whole.status == 500
        assert json.loads(whole.read())["error"]["type"] == "InternalServerError"
        assert server.end() == status
        assert b'"type": "InternalServerError"' in stream.read()
        assert "ZeroDivisionError: the bug" in server.text
        assert server.log[-2].endswith("Application shutdown complete.\n")
        with socket.socket() as one:
            assert one.connect_ex(("127.0.0.1", server.port)) != 0


def test_where_it_is_to_live_on_it_is_unhealthy() -> None:
    """Until somebody stops it."""
    with served(command=MORTAL, variables={"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1"}) as server:
        server.wait_until_it_serves()
        for _ in range(2):
            assert server.request("/v1/completions", BODY).status == 500
            assert server.request("/health").status == 503
        assert server.request("/v1/models").read().count(MODEL.encode()) > 0
        assert server.stop() == 0
