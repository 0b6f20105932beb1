"""Decides which fault meets which request, batch of events or step. Pure but for the time that it is told.

A decision by a rate depends on the seed, the fault, and what it is about: the request's body and how often that body came
before. So it does not depend on what else goes on, and a retry has a chance of its own.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from understudy.server.faults.hours import FaultHours, SecondsClock
from understudy.server.faults.plan import (
    Cut,
    Events,
    Fault,
    FaultPlan,
    FreezeMetrics,
    HttpError,
    Slow,
    Stall,
)

MAX_BODIES_REMEMBERED = 65_536
_UNIT = 1 << 64

F = TypeVar("F", bound=Fault)
R = TypeVar("R", HttpError, Stall, Cut)


@dataclass(frozen=True, slots=True)
class RequestFaults:
    """What is to happen to one request."""

    error_status: int | None = None
    stall: Stall | None = None
    cut: Cut | None = None


@dataclass(frozen=True, slots=True)
class EventFaults:
    """What is to happen to one batch of KV events."""

    lost: bool = False
    delay_seconds: float = 0.0
    duplicated: bool = False
    swapped: bool = False


NO_REQUEST_FAULTS = RequestFaults()
NO_EVENT_FAULTS = EventFaults()


class FaultInjector:
    """Follows the plan of `hours`; `injected` hears the kind of each fault that happens.

    The plan and its two clocks are those of FaultHours.
    """

    def __init__(
        self,
        plan: FaultPlan,
        now_seconds: SecondsClock,
        injected: Callable[[str], None] = lambda _kind: None,
        *,
        outside_seconds: SecondsClock | None = None,
    ) -> None:
        self.hours = FaultHours(plan, now_seconds, outside_seconds)
        self._injected = injected
        self._times_seen: OrderedDict[bytes, int] = OrderedDict()

    @property
    def plan(self) -> FaultPlan:
        """The plan of now, as of `hours`."""
        return self.hours.plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        self.hours.plan = plan

    def for_request(self, body: bytes) -> RequestFaults:
        """Return what is to happen to a request."""
        if not self.plan.faults:
            return NO_REQUEST_FAULTS
        key = self._key(body)
        error = self._first(HttpError, key)
        stall = self._first(Stall, key)
        cut = self._first(Cut, key)
        for fault, kind in ((error, "error"), (stall, "stall"), (cut, "cut")):
            if fault is not None:
                self._injected(kind)
        return RequestFaults(None if error is None else error.status, stall, cut)

    def for_events(self, rank: int, sequence_number: int) -> EventFaults:
        """Return what is to happen to a batch of events."""
        for index, fault in self._holding(Events):
            key = f"{rank}/{sequence_number}".encode()
            found = EventFaults(
                lost=self._strikes(fault.lose, index, key + b"/lose"),
                delay_seconds=fault.delay_seconds
                if self._strikes(fault.delay, index, key + b"/delay")
                else 0.0,
                duplicated=self._strikes(fault.duplicate, index, key + b"/duplicate"),
                swapped=self._strikes(fault.reorder, index, key + b"/reorder"),
            )
            if found != NO_EVENT_FAULTS:
                self._injected("events")
            return found
        return NO_EVENT_FAULTS

    def slow_factor(self) -> float:
        """Return by how much every step takes longer now."""
        factor = 1.0
        for _, fault in self._holding(Slow):
            factor *= fault.factor
        return factor

    def metrics_are_frozen(self) -> bool:
        """Whether /metrics stands still now."""
        return any(True for _ in self._holding(FreezeMetrics))

    def _key(self, body: bytes) -> bytes:
        digest = hashlib.blake2b(body, digest_size=16).digest()
        times = self._times_seen.pop(digest, 0)
        self._times_seen[digest] = times + 1
        if len(self._times_seen) > MAX_BODIES_REMEMBERED:
            self._times_seen.popitem(last=False)
        return digest + times.to_bytes(8, "big")

    def _first(self, kind: type[R], key: bytes) -> R | None:
        """Return the first fault of a kind that holds now and strikes."""
        return next(
            (fault for index, fault in self._holding(kind) if self._strikes(fault.rate, index, key)), None
        )

    def _holding(self, kind: type[F]) -> Iterator[tuple[int, F]]:
        for index, fault in enumerate(self.plan.faults):
            if isinstance(fault, kind) and self.hours.holds(fault):
                yield index, fault

    def _strikes(self, rate: float, index: int, key: bytes) -> bool:
        seed = f"{self.plan.seed}/{index}/".encode()
        number = int.from_bytes(hashlib.blake2b(seed + key, digest_size=8).digest(), "big")
        return number < rate * _UNIT
