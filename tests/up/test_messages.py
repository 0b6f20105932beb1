"""What people and programs are told of a fleet."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tests.up.screen import screen

from understudy.gateway.settings import RouteSettings
from understudy.up.fleet_plan import WorkerPlan
from understudy.up.messages import LogLevel, Messages
from understudy.up.processes import Worker
from understudy.up.run import Ready

LOG = (
    "starts",
    "DEBUG:    one",
    "INFO:     two",
    "WARNING:  three",
    "  of it",
    "ERROR:    four",
    "INFO:     five",
)


def _worker(name: str = "w-0", *models: str, gpu: str = "h100") -> Worker:
    worker = Worker(WorkerPlan(name=name, words=(), models=models or ("m",), gpu=gpu))
    worker.pid, worker.url = 7, f"http://127.0.0.1/{name}"
    return worker


def _ready(*workers: Worker) -> Ready:
    return Ready(
        url="http://127.0.0.1:8000", admin_url="http://127.0.0.1:8001", workers=workers, seconds=1.25
    )


@pytest.mark.parametrize(
    ("level", "is_left_out"), [("debug", ""), ("info", "1"), ("warning", "126"), ("error", "12346")]
)
def test_the_level_decides_what_is_shown(level: LogLevel, is_left_out: str) -> None:
    """Of a worker's log that level and what is above it, with the lines that belong to it; at a failure also the rest."""
    left_out = [line for number, line in enumerate(LOG) if str(number) in is_left_out]
    shown = [line for line in LOG if line not in left_out]
    worker = _worker()
    with screen() as seen:
        messages = Messages(seen.terminal, RouteSettings(), level=level, prints_json=False)
        for line in LOG:
            messages.said(worker, line)
        messages.failed(worker)
        messages.failed(worker)
    assert seen.error.splitlines() == [f"w-0      | {line}" for line in [*shown, *left_out]]


def test_programs_get_one_line() -> None:
    """Of JSON, with all that is needed to reach everything."""
    with screen() as seen:
        messages = Messages(seen.terminal, RouteSettings(policy="session"), level="info", prints_json=True)
        messages.ready(_ready(_worker()))
    assert seen.output.count("\n") == 1
    assert json.loads(seen.output) == {
        "url": "http://127.0.0.1:8000",
        "admin_url": "http://127.0.0.1:8001",
        "policy": "session",
        "seconds": 1.25,
        "workers": [
            {
                "name": "w-0",
                "url": "http://127.0.0.1/w-0",
                "admin_url": None,
                "pid": 7,
                "models": ["m"],
                "gpu": "h100",
            }
        ],
    }


def test_people_get_few_lines_and_a_command() -> None:
    """Equal workers are one line; keys are not in the command, but its place for one and the certificate are."""
    settings = RouteSettings(
        api_key=("secret-key",), ssl_certfile=Path("my certificate.pem"), ssl_keyfile=Path("key.pem")
    )
    with_admin = _worker("w-2", "it's", "other", gpu="b200")
    with_admin.admin_url = "http://127.0.0.1:9000"
    ready = _ready(with_admin, _worker("w-0"), _worker("w-1"))
    with screen() as seen:
        Messages(seen.terminal, settings, level="info", prints_json=False).ready(ready)
        Messages(seen.terminal, RouteSettings(), level="info", prints_json=False).ready(
            replace(ready, admin_url=None)
        )
    lines = seen.output.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == [
        *("router", "admin", "model", "model", "w-2", "try"),
        *("router", "model", "model", "w-2", "try"),
    ]
    assert "model      it's, other: 1 worker on b200" in lines
    assert "model      m: 2 workers on h100" in lines
    assert "secret-key" not in seen.output
    words = shlex.split(lines[5])
    assert json.loads(words[words.index("-d") + 1])["model"] == "it's"
    assert words[words.index("--cacert") + 1] == "my certificate.pem"
    assert words[-2:] == ["-H", "Authorization: Bearer $API_KEY"]
    assert not {"--cacert", "Authorization: Bearer $API_KEY"} & set(shlex.split(lines[-1]))


def test_what_happens_is_ours() -> None:
    """A sentence of our own stands beside the workers' lines."""
    with screen() as seen:
        Messages(seen.terminal, RouteSettings(), level="info", prints_json=False).happened("a worker ended")
    assert seen.error == "up       | a worker ended\n"
