"""`understudy up` from its start to its end, as a process with its workers."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import TIMEOUT_SECONDS, environment, understudy
from tests.e2e.served import MODEL, Server

ORPHANS_SECONDS = 2.0
"""How long workers may outlive whoever started them."""
QUICK = ("--heartbeat-seconds", "0.1")
LONG_PROMPTS = [f"{word} " * 200 for word in ("apple", "brick")]
SLOW = ("--", "--decode-seconds-per-step", "0.05", "--max-model-len", "100000")


class Fleet(Server):
    """A running `understudy up`; `ready` is what it said on standard output."""

    ready: dict[str, Any]

    def wait_until_ready(self) -> None:
        """Read the line of JSON that comes when all workers are ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.text
        self.ready = json.loads(line)
        self.port = int(self.ready["url"].rpartition(":")[2])

    @property
    def pids(self) -> list[int]:
        """The workers' processes."""
        return [worker["pid"] for worker in self.ready["workers"]]

    def worker_of(self, prompt: str, **fields: Any) -> str:
        """Return which worker answers a prompt."""
        answer = self.request("/v1/completions", {"prompt": prompt, "max_tokens": 2, **fields})
        assert answer.status == 200, answer.read()
        answer.read()
        return answer.headers["X-Understudy-Worker"]

    def wait_until_blocks_are_known(self) -> None:
        """Wait until the router knows of blocks of every worker: their events come a little later than the answers."""
        while not all(worker["blocks_known"] for worker in self.admin("/workers")["workers"]):
            time.sleep(0.01)

    def admin(self, path: str) -> Any:
        """Return what the router's admin API says."""
        connection = http.client.HTTPConnection(self.ready["admin_url"].partition("//")[2])
        connection.request("GET", path, headers={"Connection": "close"})
        return json.loads(connection.getresponse().read())


@contextlib.contextmanager
def up(*words: str, is_ready: bool = True, cwd: Path | None = None) -> Iterator[Fleet]:
    """Start a fleet, and kill it in the end if it is still there."""
    port = () if "--port" in words else ("--port", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "understudy", "up", "--json", *QUICK, *port, *words],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            fleet = Fleet(process)
            if is_ready:
                fleet.wait_until_ready()
            yield fleet
        finally:
            process.kill()


def _running(pids: Sequence[int]) -> list[int]:
    """Return those of the processes that have not ended; one that nobody has asked for its status has ended, too."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    states = {int(pid): state for pid, state in (line.split() for line in listed.splitlines())}
    return [pid for pid in pids if not states.get(pid, "Z").startswith("Z")]


def _is_refused(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def test_a_prefix_stays_where_it_is_cached() -> None:
    """All workers are ready, the router knows what they hold, and Ctrl-C ends everything well."""
    with up("--workers", "2", "--time-scale", "0", "--worker-log-level", "warning") as fleet:
        assert fleet.request("/health").status == 200
        assert {worker["models"][0] for worker in fleet.ready["workers"]} == {MODEL}
        workers = fleet.admin("/workers")["workers"]
        assert {(worker["health"], worker["knowledge"]) for worker in workers} == {("healthy", "events")}
        assert {worker["url"] for worker in workers} == {worker["url"] for worker in fleet.ready["workers"]}
        homes = [fleet.worker_of(prompt) for prompt in LONG_PROMPTS]
        assert len(set(homes)) == 2
        fleet.wait_until_blocks_are_known()
        for tail in range(3):
            assert [fleet.worker_of(f"{prompt} {tail}") for prompt in LONG_PROMPTS] == homes
        answer = fleet.request("/v1/completions", {"prompt": LONG_PROMPTS[0], "max_tokens": 1})
        assert json.loads(answer.read())["usage"]["prompt_tokens_details"]["cached_tokens"] > 100
        assert fleet.stop(signal.SIGINT) == 0
        assert not _running(fleet.pids)
        assert _is_refused(fleet.port)
        assert fleet.text.strip() == ""


def test_no_worker_outlives_a_killed_parent() -> None:
    """`kill -9` leaves nothing behind."""
    with up("--workers", "2") as fleet:
        assert _running(fleet.pids) == fleet.pids
        assert fleet.stop(signal.SIGKILL) == -signal.SIGKILL
        end = time.monotonic() + ORPHANS_SECONDS
        while (left := _running(fleet.pids)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left


def test_the_death_of_a_worker_is_told_and_survived() -> None:
    """The others take its requests; without any left it is a failure."""
    with up("--workers", "2", "--time-scale", "0") as fleet:
        first, second = fleet.ready["workers"]
        os.kill(first["pid"], signal.SIGKILL)
        told = fleet.wait_for("was ended by SIGKILL")
        assert told.endswith("| worker-0 was ended by SIGKILL; the router goes on with 1 worker\n")
        assert {fleet.worker_of(prompt) for prompt in LONG_PROMPTS} == {second["url"]}
        os.kill(second["pid"], signal.SIGKILL)
        assert fleet.end() == 1
        assert fleet.log[-2].startswith("understudy: worker-1, the last worker, was ended by SIGKILL")


def _begun_stream(fleet: Fleet, max_tokens: int) -> http.client.HTTPResponse:
    body = {"prompt": "hi", "max_tokens": max_tokens, "stream": True}
    stream = fleet.request("/v1/completions", body)
    assert stream.readline().startswith(b"data: ")
    return stream


def test_streams_are_finished_before_workers_end() -> None:
    """After SIGTERM nobody new is let in, what has begun goes on to its end, and the status is 0."""
    with up("--workers", "2", *SLOW) as fleet:
        stream = _begun_stream(fleet, 20)
        fleet.process.send_signal(signal.SIGTERM)
        assert stream.read().endswith(b"data: [DONE]\n\n")
        assert fleet.end() == 0
        assert not _running(fleet.pids)


def test_a_second_signal_ends_it_at_once() -> None:
    """With the status of an interrupted command; nothing is left."""
    with up("--workers", "2", *SLOW) as fleet:
        stream = _begun_stream(fleet, 50_000)
        fleet.process.send_signal(signal.SIGINT)
        while not _is_refused(fleet.port):
            time.sleep(0.01)
        fleet.process.send_signal(signal.SIGINT)
        with contextlib.suppress(http.client.IncompleteRead):
            assert b"[DONE]" not in stream.read()
        assert fleet.end() == 130
        assert not _running(fleet.pids)


PROFILE = """
- {name: small, count: 1, model: llama-3.1-8b, served_model_name: small}
- {name: wrong, count: 1, model: llama-2-13b, gpu: a100-40gb, faults: {faults: [{kind: error, status: 503}]}}
"""


def test_a_profile_makes_a_mixed_fleet(tmp_path: Path) -> None:
    """Requests go to a worker of their model, all models are listed, and a group has its own faults."""
    (tmp_path / "fleet.yaml").write_text(PROFILE, encoding="utf-8")
    with up("--profile", "fleet.yaml", "--time-scale", "0", cwd=tmp_path) as fleet:
        by_name = {worker["name"]: worker["url"] for worker in fleet.ready["workers"]}
        assert list(by_name) == ["small-0", "wrong-0"]
        assert fleet.worker_of("hi", model="small") == by_name["small-0"]
        refused = fleet.request("/v1/completions", {"prompt": "hi", "model": "llama-2-13b"})
        assert (refused.status, refused.headers["X-Understudy-Worker"]) == (503, by_name["wrong-0"])
        listed = json.loads(fleet.request("/v1/models").read())["data"]
        assert {model["id"] for model in listed} == {"small", "llama-2-13b"}
        assert fleet.stop() == 0
        assert not _running(fleet.pids)


def test_a_worker_that_cannot_start_ends_all() -> None:
    """In one line that says which and why, after the last that it said; as does a router that cannot listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ("--workers", "1", "--base-port", str(port), "--worker-log-level", "error")
        with up(*flags, is_ready=False) as fleet:
            assert fleet.end() == 1
            reason = f"cannot listen on 127.0.0.1:{port}: Address already in use"
            assert fleet.log[-2] == (
                f"understudy: worker-0 ended with exit status 2 before all workers were ready: {reason}\n"
            )
            assert f"worker-0 | understudy: {reason}\n" in fleet.log
            assert "worker-0 | INFO:     understudy " in fleet.text
            assert "Traceback" not in fleet.text
        with up("--port", str(port), is_ready=False) as fleet:
            assert fleet.end() == 2
            assert fleet.log[:-1] == [f"understudy: {reason}\n"]


def test_it_may_be_stopped_before_it_is_ready() -> None:
    """While models load; nothing was ready, and that is no failure."""
    with up("--workers", "2", "--startup", "1000s", is_ready=False) as fleet:
        fleet.wait_for("Loading the model")
        assert fleet.stop() == 0
        assert fleet.process.stdout is not None
        assert fleet.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("status", "words", "flags"),
    [
        (2, "unrecognized arguments: --nonsense", ("--", "--nonsense")),
        (2, "Unknown option: --nonsense", ("--nonsense",)),
        (2, "unknown model 'nobody/knows'", ("--model", "nobody/knows")),
        (2, "unknown policy 'nonsense'", ("--policy", "nonsense")),
        (2, "--workers goes without --profile", ("--profile", "x.yaml", "--workers", "2")),
        (2, "--host 0.0.0.0 is open to the network", ("--host", "0.0.0.0")),  # noqa: S104 # refused
        (1, "x.yaml", ("--profile", "x.yaml")),
        (1, "unknown field `modell`", ("--profile", "wrong.yaml")),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    tmp_path: Path, status: int, words: str, flags: tuple[str, ...]
) -> None:
    """Before any process is started, with the status of wrong usage or of bad input."""
    (tmp_path / "wrong.yaml").write_text("[{modell: x}]", encoding="utf-8")
    finished = understudy("up", "--port", "0", *flags, cwd=tmp_path)
    assert finished.status == status, finished
    assert words in finished.error


def test_people_are_told_what_is_ready(tmp_path: Path) -> None:
    """Where the router is, its admin API, the model, and a command to try it that works; workers' lines have their names."""
    with subprocess.Popen(
        [sys.executable, "-m", "understudy", "up", "--workers", "1", "--port", "0", "--time-scale", "0"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().split(maxsplit=1) for _ in range(4)]
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
    assert [line[0] for line in lines] == ["router", "admin", "model", "try"]
    assert lines[2][1] == f"{MODEL}: 1 worker on h100\n"
    address = lines[0][1].partition(",")[0]
    assert lines[3][1].startswith(f"curl {address}/v1/completions -H ")
    assert output == ""
    assert all(line.startswith(("worker-0 | ", "router   | ")) for line in errors.splitlines())
    assert process.returncode == 0
