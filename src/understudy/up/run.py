"""Runs the router and its workers together, from the start to the end of both."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

from understudy.errors import InputError
from understudy.gateway.member import Member
from understudy.gateway.router import Router, Sources
from understudy.gateway.serve import address, admin_api, routing
from understudy.gateway.settings import RouteSettings
from understudy.routing import Health
from understudy.up.fleet_plan import FleetPlan
from understudy.up.processes import Worker, Workers
from understudy.web import RunningServer

GRACE_SECONDS = 5.0
"""How long workers may take to end when they are asked to, with nothing left in work."""
_LOOK_SECONDS = 0.02
"""Time between two looks at whether all workers are ready."""
_HEARD_SECONDS = 10.0
"""How long to wait for what they hold: nothing as yet, so little is lost without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What is there once all workers are ready, after so many seconds."""

    url: str
    admin_url: str | None
    workers: tuple[Worker, ...]
    seconds: float


class Audience(Protocol):
    """Who is told what happens."""

    def said(self, worker: Worker, line: str) -> None:
        """Take a line of a worker."""

    def progress(self, text: str) -> None:
        """Take what is waited for, in a few words; empty for nothing."""

    def ready(self, ready: Ready) -> None:
        """Note that requests can come."""

    def happened(self, text: str) -> None:
        """Take a sentence on what has happened."""

    def failed(self, worker: Worker) -> None:
        """Note that a worker's end is the end of all."""


async def run(plan: FleetPlan, settings: RouteSettings, sources: Sources, audience: Audience) -> bool:
    """Run until SIGINT or SIGTERM, then finish what is in work; a second one ends it at once, and False is returned.

    No worker is left in any case. Raises InputError where a worker ends before all are ready, or the last one ends, and
    UsageError and InputError for settings that cannot be used.
    """
    begun = monotonic()
    stop = _Stop()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(stop.signals())
        router, running = await stack.enter_async_context(
            routing(replace(settings, admin_port=None), sources)
        )
        admin_url = None
        if settings.admin_port is not None:
            admin_url = await stack.enter_async_context(admin_api(router, settings.admin_port))
        fleet = _Fleet(router, audience)
        workers = Workers(plan, fleet)
        fleet.order = workers.all
        stack.push_async_callback(workers.close)
        stack.callback(fleet.leave)
        await workers.start()
        await _first(fleet.wait_until_ready(len(plan.workers)), fleet.wait_for_failure(), stop.asked.wait())
        if not stop.asked.is_set():
            url = address(settings, running)
            audience.ready(
                Ready(url=url, admin_url=admin_url, workers=workers.all, seconds=monotonic() - begun)
            )
            await _first(fleet.wait_for_failure(), stop.asked.wait())
        await _finish(running, settings.drain_seconds, stop, audience)
        fleet.leave()
        await _first(workers.stop(GRACE_SECONDS), stop.at_once.wait())
    return not stop.at_once.is_set()


async def _finish(running: RunningServer, seconds: float, stop: "_Stop", audience: Audience) -> None:
    """Accept no more requests, and wait for the answers that have begun."""
    audience.progress(f"Finishing what is in work, up to {seconds:g} s; Ctrl-C ends it at once")
    await _first(running.drain(seconds), stop.at_once.wait())
    audience.progress("")


class _Fleet:
    """The workers as members of the router's fleet: they join when they serve, in their order, and leave when they end.

    The order decides whose turn it is, so that every run of a fleet decides alike.
    """

    def __init__(self, router: Router, audience: Audience) -> None:
        self._router = router
        self._audience = audience
        self.order: Sequence[Worker] = ()
        self._serving: set[Worker] = set()
        self._members: dict[Worker, Member] = {}
        self._failed = asyncio.Event()
        self._failure = ""
        self._is_ready = False
        self._is_leaving = False

    def said(self, worker: Worker, line: str) -> None:
        self._audience.said(worker, line)

    def serves(self, worker: Worker) -> None:
        self._serving.add(worker)
        if self._is_leaving:
            return
        for each in self.order:
            if each not in self._serving:
                break
            if each not in self._members:
                assert each.url is not None, "it serves"
                self._members[each] = self._router.add_worker(each.url)

    def ended(self, worker: Worker) -> None:
        if self._is_leaving:
            return
        if (member := self._members.pop(worker, None)) is not None:
            self._router.fleet.remove(member)
        if not self._is_ready:
            self._fail(worker, f"{worker.name} {worker.end} before all workers were ready")
        elif not len(self._router.fleet):
            self._fail(worker, f"{worker.name}, the last worker, {worker.end}")
        else:
            left = len(self._router.fleet)
            workers = "1 worker" if left == 1 else f"{left} workers"
            self._audience.happened(f"{worker.name} {worker.end}; the router goes on with {workers}")

    def leave(self) -> None:
        """Let go of all workers: what becomes of them is no failure any more."""
        self._is_leaving = True
        for member in self._members.values():
            self._router.fleet.remove(member)
        self._members.clear()

    async def wait_until_ready(self, num_workers: int) -> None:
        """Wait until the router has found so many workers healthy, and knows what they serve and what they hold."""
        num_ready = -1
        while num_ready < num_workers:
            before, num_ready = num_ready, self._num_ready()
            if num_ready != before:
                self._audience.progress(f"{num_ready} of {num_workers} workers are ready")
            await asyncio.sleep(_LOOK_SECONDS)
        await self._router.heard_of_all(_HEARD_SECONDS)
        self._is_ready = True
        self._audience.progress("")

    async def wait_for_failure(self) -> None:
        """Wait until nothing can go on; raises InputError then."""
        await self._failed.wait()
        raise InputError(self._failure)

    def _num_ready(self) -> int:
        fleet = self._router.fleet
        return sum(fleet.health_of(member) is Health.HEALTHY and bool(member.models) for member in fleet)

    def _fail(self, worker: Worker, what: str) -> None:
        if not self._failed.is_set():
            last_line = worker.last_lines[-1] if worker.last_lines else "it said nothing"
            self._failure = f"{what}: {last_line.removeprefix('understudy: ')}"
            self._audience.failed(worker)
            self._failed.set()


class _Stop:
    """What the user wants: an orderly end, then one at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Listen to SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._ask)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _ask(self) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for whatever is over first, and raise what it raises."""
    tasks = [asyncio.create_task(each) for each in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
