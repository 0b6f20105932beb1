"""A plan of faults as data: what, when, how often. It decides nothing."""

import math
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from understudy.errors import InputError
from understudy.regular_file import MAX_YAML_BYTES, read_regular

Rate = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=0, le=10**9)]

F = TypeVar("F", bound="Timed")


class Timed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a fault holds: from `at_seconds` after the start of the server, for `for_seconds` or for ever.

    Without `at_seconds` it holds from when its plan is set. Seconds are the engine's: with a time scale of 0.1 they pass
    ten times faster; of a time scale of 0 tells FaultHours.
    """

    at_seconds: Seconds | None = None
    for_seconds: Seconds | None = None

    @property
    def begin_seconds(self) -> float:
        """When it begins; 0, the start, as long as its plan is not set."""
        return self.at_seconds or 0.0

    @property
    def end_seconds(self) -> float:
        """When it is over; infinity for never."""
        return math.inf if self.for_seconds is None else self.begin_seconds + self.for_seconds

    def holds(self, now_seconds: float) -> bool:
        """Whether it holds at that time."""
        return self.begin_seconds <= now_seconds < self.end_seconds


class HttpError(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="error"):
    """A share of generation requests is answered with an error status before any work."""

    status: Annotated[int, Meta(ge=400, le=599)] = 500
    rate: Rate = 1.0


class Refuse(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="refuse"):
    """New connections are refused."""


class Stall(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="stall"):
    """A share of answers stands still after so many tokens, for a while or until the client leaves."""

    rate: Rate = 1.0
    after_tokens: Count = 0
    stall_seconds: Seconds | None = None


class Cut(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cut"):
    """A share of answers ends after so many tokens: by breaking the connection, or a stream cleanly with [DONE]."""

    rate: Rate = 1.0
    after_tokens: Count = 1
    done: bool = False


class Slow(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="slow"):
    """Every step takes longer by a factor."""

    factor: Annotated[float, Meta(gt=0, le=1e6)] = 2.0


class FreezeMetrics(
    Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="freeze-metrics"
):
    """/metrics shows what it showed at the beginning."""


class Events(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="events"):
    """Batches of KV events are lost, late, sent twice, or swapped with the next; each by its own rate.

    Sequence numbers count on, so a subscriber can see what it missed, and replay has everything.
    """

    lose: Rate = 0.0
    delay: Rate = 0.0
    delay_seconds: Seconds = 1.0
    duplicate: Rate = 0.0
    reorder: Rate = 0.0


class Crash(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="crash"):
    """At `at_seconds` every connection breaks; `for_seconds` later (10 by default) it serves again, with a cold cache."""

    for_seconds: Seconds | None = 10.0


Fault = HttpError | Refuse | Stall | Cut | Slow | FreezeMetrics | Events | Crash


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults, and the seed of every decision by a rate."""

    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    faults: tuple[Fault, ...] = ()

    def set_at(self, now_seconds: float) -> "FaultPlan":
        """Return the plan as it is followed from now on: what has no `at_seconds` begins now, all else is as it was."""
        return msgspec.structs.replace(
            self, faults=tuple(_begun(fault, now_seconds) for fault in self.faults)
        )


def _begun(fault: F, now_seconds: float) -> F:
    return fault if fault.at_seconds is not None else msgspec.structs.replace(fault, at_seconds=now_seconds)


def parse_fault_plan(data: bytes, where: str) -> FaultPlan:
    """Read a plan in JSON or YAML; `where` names it in the InputError for a malformed one."""
    try:
        return msgspec.yaml.decode(data, type=FaultPlan)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"{where} is no fault plan: {' '.join(str(error).split())}") from error


def load_fault_plan(path: Path) -> FaultPlan:
    """Read the plan in a regular file of at most MAX_YAML_BYTES; raises InputError."""
    return parse_fault_plan(read_regular(path, MAX_YAML_BYTES), str(path))
