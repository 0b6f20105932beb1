"""The workers' processes: starts them, hears what they say, sees them end, and leaves none behind."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from typing import Protocol, cast

from understudy.errors import InputError
from understudy.up.child import MODULE
from understudy.up.fleet_plan import FleetPlan, WorkerPlan
from understudy.up.lines import Lines

KEPT_LINES = 20
"""So many last lines of each worker are kept, to tell why it ended."""

_ADDRESS = re.compile(r"Serving on (http://\S+) ")
_ADMIN_ADDRESS = re.compile(r"Admin port: (http://\S+)")


class Worker:
    """One process. `url` None: it does not serve yet; `status` None: it runs, below 0 it is the signal that ended it."""

    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.pid: int | None = None
        self.url: str | None = None
        self.admin_url: str | None = None
        self.status: int | None = None
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.ended = asyncio.Event()

    @property
    def name(self) -> str:
        """What it is called in front of its lines."""
        return self.plan.name

    @property
    def is_running(self) -> bool:
        """Whether there is a process that could be sent a signal."""
        return self.pid is not None and self.status is None

    @property
    def end(self) -> str:
        """How it ended, as the end of a sentence."""
        assert self.status is not None, "it has ended"
        if self.status >= 0:
            return f"ended with exit status {self.status}"
        return f"was ended by {signal.Signals(-self.status).name}"


class Listener(Protocol):
    """Who hears of the workers, within the event loop."""

    def said(self, worker: Worker, line: str) -> None:
        """Take a line that a worker has written."""

    def serves(self, worker: Worker) -> None:
        """Note that a worker accepts connections at its `url`."""

    def ended(self, worker: Worker) -> None:
        """Note that a worker has ended; all that it said was heard before."""


class Workers:
    """The processes of a plan. `close` it in any case: then none is left.

    Each is a session of its own, so that Ctrl-C in a terminal reaches only us. Standard input of all of them is a pipe whose
    other end is ours alone; a worker ends when it is closed, however we have ended.
    """

    def __init__(self, plan: FleetPlan, listener: Listener) -> None:
        self.all = tuple(Worker(each) for each in plan.workers)
        self._environment = _environment(plan.environment)
        self._listener = listener
        self._lifeline: int | None = None

    async def start(self) -> None:
        """Start all; raises InputError where the system allows no more processes."""
        standard_input, self._lifeline = os.pipe()
        try:
            for worker in self.all:
                await self._start(worker, standard_input)
        finally:
            os.close(standard_input)

    async def _start(self, worker: Worker, standard_input: int) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Output(worker, self._listener),
                *(sys.executable, "-P", "-m", MODULE, *worker.plan.words),
                stdin=standard_input,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise InputError(f"cannot start {worker.name}: {error.strerror or error}") from error
        worker.pid = transport.get_pid()

    async def stop(self, grace_seconds: float) -> None:
        """Ask all to end, and after the grace make them."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._all_ended()
        except TimeoutError:
            await self.close()

    async def close(self) -> None:
        """End all at once."""
        self._signal(signal.SIGKILL)
        await self._all_ended()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _signal(self, number: int) -> None:
        for worker in self.all:
            if worker.is_running:
                assert worker.pid is not None
                # It may have ended a moment ago, which macOS calls a lack of permission.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.pid, number)

    async def _all_ended(self) -> None:
        for worker in self.all:
            if worker.pid is not None:
                await worker.ended.wait()


class _Output(asyncio.SubprocessProtocol):
    """What comes from one process."""

    def __init__(self, worker: Worker, listener: Listener) -> None:
        self._worker = worker
        self._listener = listener
        self._lines = Lines()
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        del fd  # standard output and standard error are one
        for line in self._lines.of(data):
            self._take(line)

    def process_exited(self) -> None:
        assert self._transport is not None, "it was started"
        self._worker.status = self._transport.get_returncode()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for line in self._lines.rest():
            self._take(line)
        assert self._transport is not None, "it was started"
        self._transport.close()
        self._worker.ended.set()
        self._listener.ended(self._worker)

    def _take(self, line: str) -> None:
        worker = self._worker
        worker.last_lines.append(line)
        self._listener.said(worker, line)
        if worker.url is None and (found := _ADDRESS.search(line)):
            worker.url = found[1]
            self._listener.serves(worker)
        elif worker.admin_url is None and (found := _ADMIN_ADDRESS.search(line)):
            worker.admin_url = found[1]


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    environment = {**os.environ, **changes}
    return {name: value for name, value in environment.items() if value is not None}
