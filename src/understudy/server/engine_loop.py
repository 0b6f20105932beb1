"""Drives the engines of a server by the clock: every step is taken at the time that the engine planned for it.

A step that is due is taken as of its planned time, however late the process is, and before anything that came
later is let in; what comes at that very time may get in before it or after. So the timeline is the simulator's for
the same arrivals, and lateness never adds up; it is told to `late`. Everything happens in one thread, between two
events of an asyncio loop.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from understudy.engine import Engine, PauseScope, Request, StepResult
from understudy.server.engine_clock import EngineClock

StepListener = Callable[[int, int, StepResult], None]
"""Takes the rank of an engine, the time of the step in nanoseconds, and what it did."""

FailureListener = Callable[[Exception], None]
"""Takes what came out of the middle of a step, after which no engine can go on."""

LateListener = Callable[[float], None]
"""Takes how much later than planned a step was taken, in seconds outside."""

MAX_STEPS_AT_ONCE = 32
"""After so many overdue steps the event loop gets a turn."""

FREE_STEPS_A_TURN = 8
"""Steps in a turn of the event loop where no time passes: what they bring to a client goes out in one system call."""


class _Arrival(NamedTuple):
    """A request, or the id of one to abort, on its way to an engine that has steps to take before."""

    at_ns: int
    rank: int
    what: Request | str


class EngineLoop:
    """The engines of all data-parallel ranks, on one clock."""

    def __init__(
        self,
        engines: Sequence[Engine],
        clock: EngineClock,
        *,
        stepped: StepListener,
        late: LateListener,
        failed: FailureListener | None = None,
    ) -> None:
        self.engines = list(engines)
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._stepped = stepped
        self._late = late
        self._failed = failed
        self._starting: set[int] = set()
        self._arriving: deque[_Arrival] = deque()
        self._timer: asyncio.Handle | None = None
        self._timer_ns = 0
        self._is_closed = False
        self._is_stepping = False
        self._is_woken_by_hand = clock.loop_time(clock.now_ns()) == math.inf

    def add(self, rank: int, request: Request) -> None:
        """Give an engine a request that arrives now."""
        self._arrive(rank, request)

    def abort(self, rank: int, request_id: str) -> None:
        """Ask for the end of a request; it takes effect between two steps, from within a step right behind it."""
        self._arrive(rank, request_id)

    def set_pause(self, scope: PauseScope) -> None:
        """Let every scheduler leave alone what is in `scope`, from its next step on."""
        for rank, engine in enumerate(self.engines):
            engine.scheduler.pause = scope
            if engine.next_ns is None:
                self._starting.add(rank)
        self._arm()

    @property
    def next_ns(self) -> int | None:
        """When the next step is due, None while all engines wait for requests, and for good after `close`."""
        if self._is_closed:
            return None
        if self._starting:
            return self.clock.now_ns()
        rank = self._earliest()
        return None if rank is None else self._due_ns(rank)

    @property
    def is_idle(self) -> bool:
        """Whether no step is in flight and none is about to start."""
        return not self._starting and not self._arriving and self.next_ns is None

    def wake(self) -> None:
        """Take all that is due by now: for clocks that no timer can follow."""
        self._tick()
        while not self._is_closed and (
            self._starting or ((due_ns := self.next_ns) is not None and due_ns <= self.clock.now_ns())
        ):
            self._tick()

    def close(self) -> None:
        """Take no steps any more."""
        self._is_closed = True
        self._disarm()

    # -- taking steps --------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._disarm()
        if self.clock.waits:
            self._take_due_steps(before_ns=self.clock.now_ns() + 1)
            self._start_engines()
        elif self._starting:
            self._start_engines()
        else:
            self._take_free_steps()
        self._arm()

    def _take_free_steps(self) -> None:
        for _ in range(FREE_STEPS_A_TURN):
            rank = self._earliest()
            if rank is None or self._starting or self._is_closed:
                return
            self._step(rank)

    def _arrive(self, rank: int, what: Request | str) -> None:
        now_ns = self.clock.now_ns()
        arrival = _Arrival(now_ns, rank, what)
        if self._is_stepping or not self.clock.waits:
            self._let_in(arrival)
        else:
            self._arriving.append(arrival)
            self._take_due_steps(before_ns=now_ns)
        if isinstance(what, str) or not self._is_woken_by_hand:
            self._arm()

    def _let_in(self, arrival: _Arrival) -> None:
        engine = self.engines[arrival.rank]
        if isinstance(arrival.what, Request):
            engine.add(arrival.what)
        else:
            engine.abort(arrival.what)
        if engine.next_ns is None:
            self._starting.add(arrival.rank)

    def _take_due_steps(self, before_ns: int) -> None:
        """Take what was planned for a time that has passed, and let in what has arrived, in the order of time."""
        if self._is_closed or self._is_stepping:
            return
        for _ in range(MAX_STEPS_AT_ONCE):
            rank = self._earliest()
            due_ns = before_ns if rank is None else self._due_ns(rank)
            while self._arriving and self._arriving[0].at_ns <= due_ns:
                self._let_in(self._arriving.popleft())
            if rank is None or due_ns >= before_ns:
                return
            self._step(rank)

    def _start_engines(self) -> None:
        """Let engines start that were idle, now that all that arrives at this very time has arrived."""
        now_ns = self.clock.now_ns()
        starting, self._starting = sorted(self._starting), set()
        for rank in starting:
            self._take(rank, now_ns)

    def _step(self, rank: int) -> None:
        at_ns = self._due_ns(rank)
        if self.clock.waits:
            self._late(self.clock.wall_seconds(max(0, self.clock.now_ns() - at_ns)))
        self._take(rank, at_ns)

    def _take(self, rank: int, at_ns: int) -> None:
        self.clock.step_started(at_ns)
        self._is_stepping = True
        try:
            result = self.engines[rank].step(at_ns)
            self._stepped(rank, at_ns, result)
        except Exception as error:
            self.close()
            if self._failed is None:
                raise
            self._failed(error)
        finally:
            self._is_stepping = False

    def _earliest(self) -> int | None:
        """Return the rank whose step is due first; of equals the lowest."""
        due = [
            (ends, rank) for rank, engine in enumerate(self.engines) if (ends := engine.next_ns) is not None
        ]
        return min(due)[1] if due else None

    def _due_ns(self, rank: int) -> int:
        due_ns = self.engines[rank].next_ns
        assert due_ns is not None, "the engine waits for something"
        return due_ns

    # -- waiting -------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Wake up for the next step; once more if it has become earlier."""
        if self._is_closed or self._is_stepping:
            return
        if self._starting or self._arriving:
            wake_ns = -1
        else:
            rank = self._earliest()
            if rank is None:
                return
            wake_ns = self._due_ns(rank)
        if self._timer is not None and self._timer_ns <= wake_ns:
            return
        self._disarm()
        self._timer_ns = wake_ns
        if wake_ns < 0 or not self.clock.waits:
            self._timer = self._loop.call_soon(self._tick)
        elif (when := self.clock.loop_time(wake_ns)) < math.inf:
            self._timer = self._loop.call_at(when, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
