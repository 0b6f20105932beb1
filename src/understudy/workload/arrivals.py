"""How requests come to a fleet: at fixed times (open loop), or when answers have come (closed loop)."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from understudy.errors import InputError, UsageError
from understudy.workload.fields import MAX_ARRIVAL_NS
from understudy.workload.request import WorkloadRequest

MAX_PARKED = 10_000
"""How many requests a closed loop looks past because their session still waits for an answer."""


class Arrivals(Protocol):
    """Requests one after another, in the order of time.

    With `feedback`, answers bring new requests: whoever pops them must report every end, in the order of
    time, and None from `peek_ns` means that nothing arrives before the next end; when none is outstanding, it
    means the end.
    """

    @property
    def feedback(self) -> bool:
        """Whether arrivals depend on answers."""
        ...

    def peek_ns(self) -> int | None:
        """Return when the next request arrives, None if none does. Raises what the workload raises."""
        ...

    def pop(self) -> WorkloadRequest:
        """Return the request that `peek_ns` told of."""
        ...

    def finished(self, request_id: str, now_ns: int, /) -> None:
        """Take note that a request was answered or refused."""
        ...


class OpenLoop:
    """Requests that arrive at their `arrival_ns`, whatever becomes of those before."""

    feedback = False

    def __init__(self, requests: Iterable[WorkloadRequest]) -> None:
        self._requests = iter(requests)
        self._next: WorkloadRequest | None = None
        self._last_ns = 0

    def peek_ns(self) -> int | None:
        """Return when the next request arrives, None after the last; InputError if time runs back."""
        if self._next is None:
            self._next = next(self._requests, None)
            if self._next is None:
                return None
            self._check(self._next)
        return self._next.arrival_ns

    def pop(self) -> WorkloadRequest:
        """Return the next request."""
        self.peek_ns()
        request, self._next = self._next, None
        assert request is not None, "the caller peeks before it pops"
        return request

    def finished(self, _request_id: str, _now_ns: int, /) -> None:
        """Take no note: nobody waits for answers."""

    def _check(self, request: WorkloadRequest) -> None:
        if not self._last_ns <= request.arrival_ns <= MAX_ARRIVAL_NS:
            raise InputError(
                f"request {request.request_id!r} must arrive between {self._last_ns:,} ns, as the one before, "
                f"and {MAX_ARRIVAL_NS:,} ns, got {request.arrival_ns:,}"
            )
        self._last_ns = request.arrival_ns


class ClosedLoop:
    """`concurrency` clients that share one list of requests; `arrival_ns` counts for nothing but its order.

    A client takes the first request that may be sent, sends it, waits for the answer, rests for `think_ns`,
    and goes on. A request may not be sent while its session waits for an answer or rests; the clients look
    past it then, at most past MAX_PARKED of them.

    Raises UsageError for a concurrency below 1 or a negative think time.
    """

    feedback = True

    def __init__(self, requests: Iterable[WorkloadRequest], concurrency: int, think_ns: int = 0) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, got {concurrency}")
        if think_ns < 0:
            raise UsageError(f"think time must not be negative, got {think_ns} ns")
        self._requests = iter(requests)
        self._think_ns = think_ns
        self._now_ns = 0
        self._num_idle = concurrency
        self._next: WorkloadRequest | None = None
        self._in_flight: dict[str, str | None] = {}
        self._resting: deque[tuple[int, str | None]] = deque()
        self._busy_sessions: set[str] = set()
        self._parked: dict[str, deque[WorkloadRequest]] = {}
        self._num_parked = 0

    def peek_ns(self) -> int | None:
        """Return when the next request is sent; None if an answer must come first, or nothing is left."""
        while self._next is None:
            if self._num_idle and (request := self._read()) is not None:
                self._send(request)
            elif self._resting:
                self._end_rest(*self._resting.popleft())
            else:
                return None
        return self._next.arrival_ns

    def pop(self) -> WorkloadRequest:
        """Return the next request, which is in flight from now on."""
        self.peek_ns()
        request, self._next = self._next, None
        assert request is not None, "the caller peeks before it pops"
        self._in_flight[request.request_id] = request.session_id
        return request

    def finished(self, request_id: str, now_ns: int, /) -> None:
        """Let the client that sent this request, and its session, rest from now on."""
        self._resting.append((now_ns + self._think_ns, self._in_flight.pop(request_id)))

    def _send(self, request: WorkloadRequest) -> None:
        self._next = replace(request, arrival_ns=self._now_ns)
        self._num_idle -= 1
        if request.session_id is not None:
            self._busy_sessions.add(request.session_id)

    def _end_rest(self, until_ns: int, session_id: str | None) -> None:
        # Answers come in the order of time and all rests are equally long: no rest can end before this one.
        assert until_ns >= self._now_ns, "the clock never runs back"
        self._now_ns = until_ns
        self._num_idle += 1
        if session_id is None:
            return
        self._busy_sessions.remove(session_id)
        if session_id in self._parked:
            # Whatever else was looked past still waits for its session, and what was not comes later.
            self._send(self._unpark(session_id))

    def _read(self) -> WorkloadRequest | None:
        """Return the next request that may be sent, parking those before it that may not."""
        while self._num_parked < MAX_PARKED:
            request = next(self._requests, None)
            if request is None or request.session_id not in self._busy_sessions:
                return request
            assert request.session_id is not None, "None is no session, so it is never busy"
            self._parked.setdefault(request.session_id, deque()).append(request)
            self._num_parked += 1
        return None

    def _unpark(self, session_id: str) -> WorkloadRequest:
        parked = self._parked[session_id]
        request = parked.popleft()
        self._num_parked -= 1
        if not parked:
            del self._parked[session_id]
        return request
