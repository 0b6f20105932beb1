"""What a client saw of one request: a line of a replay's `requests.jsonl`."""

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.fleet import RequestRecord

UNFINISHED = "unfinished"
REFUSED = "refused"
WHOLE = frozenset({"length", "stop"})
"""The statuses of a whole answer: vLLM's finish reasons."""

_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRecord:
    """One request; times in nanoseconds of the trace's clock.

    `seen` has what a simulation has too, None for what only the engine knows; its arrival is when the request was due, and
    its status is one of vLLM's finish reasons, `refused`, `unfinished`, or the kind of failure. `sent_ns` is when it was
    handed to a connection, None if it never was. `longest_gap_ns` is the longest time between two tokens.
    `simulated` are times in seconds that an emulated server told of itself, on its own clock.
    """

    seen: RequestRecord
    sent_ns: int | None = None
    longest_gap_ns: int | None = None
    worker_name: str | None = None
    message: str | None = None
    simulated: Mapping[str, float] | None = None

    def line(self) -> dict[str, object]:
        """Return the record as it is written: times in seconds."""
        line: dict[str, object] = {
            **self.seen.line(),
            "sent_seconds": _seconds(self.sent_ns),
            "longest_gap_seconds": _seconds(self.longest_gap_ns),
            "worker_name": self.worker_name,
        }
        if self.message is not None:
            line["message"] = self.message
        if self.simulated:
            line["simulated"] = dict(self.simulated)
        return line


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_SECOND
