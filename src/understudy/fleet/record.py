"""What became of one request: a line of `requests.jsonl`."""

from typing import NamedTuple

from understudy.engine import Request

_NS_PER_SECOND = 1_000_000_000


class RequestRecord(NamedTuple):
    """One request; times in nanoseconds of virtual time, None where a thing did not happen.

    `status` is `length` or `stop` (vLLM's finish reasons), `refused`, or `unfinished` in an interrupted run.
    `queued_ns` is when the engine read the request, `scheduled_ns` the start of the schedule that admitted it first.
    `reason` and `believed_cached_tokens` are the router's. A replay has further statuses, and None for what its clients cannot see.
    """

    serial: int
    request_id: str
    status: str
    arrival_ns: int
    prompt_tokens: int
    output_tokens: int
    worker: int | None = None
    queued_ns: int | None = None
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    finish_ns: int | None = None
    cached_tokens: int | None = None
    believed_cached_tokens: int | None = None
    preemptions: int | None = 0
    reason: str | None = None

    def line(self) -> dict[str, str | int | float | None]:
        """Return the record as it is written: times in seconds."""
        return {
            "id": self.request_id,
            "status": self.status,
            "arrival_seconds": _seconds(self.arrival_ns),
            "queued_seconds": _seconds(self.queued_ns),
            "scheduled_seconds": _seconds(self.scheduled_ns),
            "first_token_seconds": _seconds(self.first_token_ns),
            "finish_seconds": _seconds(self.finish_ns),
            "worker": self.worker,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "believed_cached_tokens": self.believed_cached_tokens,
            "output_tokens": self.output_tokens,
            "preemptions": self.preemptions,
            "reason": self.reason,
        }


class Dispatched(NamedTuple):
    """A request on its way through a worker, with what the router thought of it."""

    request: Request
    arrival_ns: int
    worker: int
    believed_cached_tokens: int
    reason: str

    def record(self, status: str, finish_ns: int | None) -> RequestRecord:
        """Return the record of the request as it stands."""
        request = self.request
        return RequestRecord(
            serial=request.serial,
            request_id=request.request_id,
            status=status,
            arrival_ns=self.arrival_ns,
            prompt_tokens=request.num_prompt_tokens,
            output_tokens=request.num_output_tokens,
            worker=self.worker,
            queued_ns=request.queued_ns,
            scheduled_ns=request.scheduled_ns,
            first_token_ns=request.first_token_ns,
            finish_ns=finish_ns,
            cached_tokens=request.num_cached_tokens,
            believed_cached_tokens=self.believed_cached_tokens,
            preemptions=request.num_preemptions,
            reason=self.reason,
        )


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_SECOND
