"""When the faults of a plan hold: by the engine's clock, and where that moves only with work, by another one too."""

import math
from collections.abc import Callable

from understudy.server.faults.plan import Crash, Fault, FaultPlan, Refuse

SecondsClock = Callable[[], float]
"""Tells the time in seconds."""


class FaultHours:
    """Follows a plan, which may be replaced at any time; what has no time of its own begins then.

    `now_seconds` is the engine's time since the start. `outside_seconds` is given where that stands still without work,
    so that a fault which keeps work away would never end. There a fault begins by the engine's time, and is over too
    when its seconds have passed outside. `refuse` and `crash` are over only then: work that is left takes the engine's
    time in leaps, and nobody would ever meet them.
    """

    def __init__(
        self, plan: FaultPlan, now_seconds: SecondsClock, outside_seconds: SecondsClock | None = None
    ) -> None:
        self._now_seconds = now_seconds
        self._outside_seconds = outside_seconds
        self._begun_outside: dict[int, float] = {}
        self._plan = FaultPlan()
        self.plan = plan

    @property
    def plan(self) -> FaultPlan:
        """The plan of now; every fault in it has its `at_seconds`."""
        return self._plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        now_seconds = self._now_seconds()
        new = plan.set_at(now_seconds)
        # A fault that is in the old plan too goes on; it is the same object, so that its id is its own.
        begun = self._begun_outside
        self._begun_outside = {id(fault): begun[id(fault)] for fault in new.faults if id(fault) in begun}
        self._plan = new
        for fault in new.faults:
            if fault.end_seconds <= now_seconds:
                self._begun_outside.setdefault(id(fault), -math.inf)
        self.look()

    def look(self) -> None:
        """Note what has begun by now; look often where there is a time outside."""
        for fault in self._plan.faults:
            self.holds(fault)

    def holds(self, fault: Fault) -> bool:
        """Whether a fault of the plan holds now."""
        now_seconds = self._now_seconds()
        if self._outside_seconds is None or now_seconds < fault.begin_seconds:
            return fault.holds(now_seconds)
        outside_seconds = self._outside_seconds()
        begun_seconds = self._begun_outside.setdefault(id(fault), outside_seconds)
        if fault.for_seconds is not None and outside_seconds - begun_seconds >= fault.for_seconds:
            return False
        return isinstance(fault, Refuse | Crash) or fault.holds(now_seconds)

    def is_over(self, fault: Fault) -> bool:
        """Whether a fault of the plan has begun and holds no more."""
        return fault.begin_seconds <= self._now_seconds() and not self.holds(fault)
