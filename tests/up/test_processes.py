"""The workers' processes, real ones."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from understudy.up.child import MODULE
from understudy.up.fleet_plan import FleetPlan, WorkerPlan
from understudy.up.processes import Worker, Workers

SERVE = ("serve", "llama-3.1-8b", "--time-scale", "0", "--host", "127.0.0.1", "--port", "0")
ENOUGH_SECONDS = 100.0
NAME = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"


class Witness:
    """Hears all of some workers, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def said(self, worker: Worker, line: str) -> None:
        """Keep it."""
        self.lines.append(f"{worker.name}: {line}")

    def serves(self, worker: Worker) -> None:
        """Keep it."""
        self.heard.append((worker.name, "serves"))
        self._news.set()

    def ended(self, worker: Worker) -> None:
        """Keep it."""
        self.heard.append((worker.name, "ended"))
        self._news.set()

    async def wait_for(self, what: str, count: int) -> None:
        """Wait until it was heard so often."""
        async with asyncio.timeout(ENOUGH_SECONDS):
            while [each for _, each in self.heard].count(what) < count:
                self._news.clear()
                await self._news.wait()


def _plan(*commands: Sequence[str], **environment: str | None) -> FleetPlan:
    workers = tuple(
        WorkerPlan(name=f"worker-{number}", words=tuple(words), models=("m",), gpu="h100")
        for number, words in enumerate(commands)
    )
    return FleetPlan(workers=workers, environment=environment, tokenizer=None)


def _is_there(worker: Worker) -> bool:
    assert worker.pid is not None
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_they_serve_and_end() -> None:
    """Each tells where it serves, at a port of its own; asked to end, each does so well, and none is left."""

    async def scenario() -> None:
        witness = Witness()
        workers = Workers(_plan(SERVE, (*SERVE, "--admin-port", "0")), witness)
        try:
            await workers.start()
            await witness.wait_for("serves", 2)
            one, other = workers.all
            assert one.url != other.url
            assert {os.getsid(worker.pid or 0) for worker in workers.all} == {one.pid, other.pid}
            await workers.stop(ENOUGH_SECONDS)
            assert [worker.status for worker in workers.all] == [0, 0]
            assert (one.admin_url, other.admin_url and other.admin_url[:17]) == (None, "http://127.0.0.1:")
            assert not any(map(_is_there, workers.all))
            assert sorted(witness.heard[2:]) == [("worker-0", "ended"), ("worker-1", "ended")]
            assert "worker-0: INFO:     Application shutdown complete." in witness.lines
        finally:
            await workers.close()

    asyncio.run(scenario())


def test_who_does_not_end_is_made_to() -> None:
    """After the grace, or where nothing is waited for, processes are killed; to close twice does no harm."""

    async def scenario(*, asked_before: bool) -> None:
        workers = Workers(_plan(SERVE), Witness())
        await workers.start()
        if asked_before:
            await workers.stop(0)
        await workers.close()
        await workers.close()
        (worker,) = workers.all
        assert worker.status is not None
        assert not _is_there(worker)
        assert worker.end in {"was ended by SIGKILL", "was ended by SIGTERM"}

    asyncio.run(scenario(asked_before=True))
    asyncio.run(scenario(asked_before=False))


def test_an_end_is_told_after_all_that_was_said() -> None:
    """With its status and its last words."""

    async def scenario() -> None:
        witness = Witness()
        workers = Workers(_plan(["--version"], ["serve", "--no-such-flag"]), witness)
        try:
            await workers.start()
            await witness.wait_for("ended", 2)
        finally:
            await workers.close()
        well, wrong = workers.all
        assert (well.status, wrong.status) == (0, 2)
        assert well.last_lines[-1].startswith("understudy ")
        assert wrong.last_lines[-1].endswith("unrecognized arguments: --no-such-flag")
        assert wrong.end == "ended with exit status 2"
        assert {line.partition(":")[0] for line in witness.lines} == {"worker-0", "worker-1"}

    asyncio.run(scenario())


def test_the_environment_is_as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are set and taken away; the others are ours."""
    monkeypatch.setenv(NAME, "neither")

    async def scenario(**environment: str | None) -> str:
        witness = Witness()
        workers = Workers(_plan(SERVE, **environment), witness)
        try:
            await workers.start()
            await witness.wait_for("ended" if environment.get(NAME, "given") else "serves", 1)
        finally:
            await workers.close()
        return "\n".join(witness.lines)

    assert "must be 0 or 1, got 'neither'" in asyncio.run(scenario())
    assert "must be 0 or 1, got 'nor'" in asyncio.run(scenario(**{NAME: "nor"}))
    assert "Serving on " in asyncio.run(scenario(**{NAME: None}))


@pytest.mark.parametrize("is_serving", [True, False])
def test_a_worker_ends_with_its_standard_input(is_serving: bool) -> None:  # noqa: FBT001 # a parameter
    """Whether it serves or still starts: so it ends with whoever has started it."""
    with subprocess.Popen(
        [sys.executable, "-m", MODULE, *SERVE], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        while is_serving and "Serving on " not in child.stderr.readline():
            assert child.poll() is None
        child.stdin.close()
        assert child.wait(ENOUGH_SECONDS) == 1
        assert "Traceback" not in child.stderr.read()


def test_a_signal_is_named() -> None:
    """As in "was ended by SIGKILL"."""
    worker = Worker(_plan(SERVE).workers[0])
    worker.status = -signal.SIGKILL
    assert worker.end == "was ended by SIGKILL"
