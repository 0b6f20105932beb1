"""The waiting requests in order of service: first come first served, or by priority."""

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator

from understudy.engine.config import SchedulingPolicy
from understudy.engine.request import Request


class RequestQueue(ABC):
    """What the scheduler asks of its waiting requests."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Take a request that has just arrived."""

    @abstractmethod
    def prepend(self, request: Request) -> None:
        """Take back a preempted request, ahead of those that never ran where the policy allows."""

    @abstractmethod
    def peek(self) -> Request:
        """Return the next request without removing it."""

    @abstractmethod
    def pop(self) -> Request:
        """Remove and return the next request."""

    @abstractmethod
    def remove(self, requests: Collection[Request]) -> None:
        """Remove requests wherever they stand."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Request]:
        """Iterate in order of service."""


class FCFSQueue(RequestQueue):
    """First come, first served; a preempted request goes to the front."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()

    def add(self, request: Request) -> None:
        """Append."""
        self._requests.append(request)

    def prepend(self, request: Request) -> None:
        """Put in front of all."""
        self._requests.appendleft(request)

    def peek(self) -> Request:
        """Return the first."""
        return self._requests[0]

    def pop(self) -> Request:
        """Remove the first."""
        return self._requests.popleft()

    def remove(self, requests: Collection[Request]) -> None:
        """Filter, keeping the order."""
        self._requests = deque(request for request in self._requests if request not in requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)


class PriorityQueue(RequestQueue):
    """The lowest (priority, arrival time, request id) first, wherever a request comes from."""

    def __init__(self) -> None:
        self._heap: list[Request] = []

    def add(self, request: Request) -> None:
        """Push."""
        heapq.heappush(self._heap, request)

    def prepend(self, request: Request) -> None:
        """Push: a preempted request has no privilege."""
        heapq.heappush(self._heap, request)

    def peek(self) -> Request:
        """Return the least."""
        return self._heap[0]

    def pop(self) -> Request:
        """Remove the least."""
        return heapq.heappop(self._heap)

    def remove(self, requests: Collection[Request]) -> None:
        """Filter and restore the heap."""
        self._heap = [request for request in self._heap if request not in requests]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Request]:
        return iter(sorted(self._heap))


def request_queue(policy: SchedulingPolicy) -> RequestQueue:
    """Return an empty queue for a scheduling policy."""
    return PriorityQueue() if policy == "priority" else FCFSQueue()
