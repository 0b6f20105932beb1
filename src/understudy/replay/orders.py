"""The orders of a workload, some prepared ahead of their time: requests come in bursts, and long prompts take a while to write."""

from collections import deque

from understudy.errors import InputError
from understudy.replay.endpoint import Served
from understudy.replay.order import Order, order_of
from understudy.replay.prompt_tokens import PromptTokens
from understudy.workload import Arrivals

_MOST_BYTES_AHEAD = 1 << 25


class Orders:
    """Gives each request when it is next. Arrivals that wait for answers are prepared one by one."""

    def __init__(self, arrivals: Arrivals, tokens: PromptTokens, served: Served) -> None:
        self._arrivals = arrivals
        self._tokens = tokens
        self._served = served
        self._ahead: deque[tuple[int, Order]] = deque()
        self._bytes_ahead = 0
        self._num_popped = 0
        self._in_flight: set[str] = set()

    def next(self) -> tuple[int, Order] | None:
        """Return when a request is due, and its order; None if an answer must come first, or nothing is left.

        Raises what the workload raises, and InputError for an id that arrives again before its answer where arrivals
        wait for answers.
        """
        if self._ahead:
            due_ns, order = self._ahead.popleft()
            self._bytes_ahead -= len(order.body)
            return due_ns, order
        return self._pop()

    def prepare(self) -> bool:
        """Prepare one more; return False if that makes no sense."""
        if self._arrivals.feedback or self._bytes_ahead >= _MOST_BYTES_AHEAD:
            return False
        popped = self._pop()
        if popped is None:
            return False
        self._ahead.append(popped)
        self._bytes_ahead += len(popped[1].body)
        return True

    @property
    def wait_for_answers(self) -> bool:
        """Whether answers may bring new requests."""
        return self._arrivals.feedback

    def ended(self, order: Order, now_ns: int) -> None:
        """Take note that a request was answered, or failed."""
        self._in_flight.discard(order.request.request_id)
        self._arrivals.finished(order.request.request_id, now_ns)

    def _pop(self) -> tuple[int, Order] | None:
        due_ns = self._arrivals.peek_ns()
        if due_ns is None:
            return None
        request = self._arrivals.pop()
        if self._arrivals.feedback:
            if request.request_id in self._in_flight:
                raise InputError(
                    f"request id {request.request_id!r} arrives again before the first one has finished"
                )
            self._in_flight.add(request.request_id)
        order = order_of(request, self._num_popped, self._tokens, self._served)
        self._num_popped += 1
        return due_ns, order
