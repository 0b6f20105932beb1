"""A worker's answer on its way to the client, at the client's pace.

The worker's connection calls in from its reading, and what it brings goes out at once. The handler's task sleeps
meanwhile, but for the times when the client reads too slowly.
"""

import asyncio
import re
from collections.abc import Callable
from time import monotonic_ns

from understudy.gateway.client import ClientAnswer
from understudy.gateway.headers import NOT_STARTED, without_worker
from understudy.gateway.outcome import Outcome, outcome_of
from understudy.gateway.upstream import AnswerHead, Failure, UpstreamConnection
from understudy.routing import Watched

MAX_HELD_BYTES = 64 * 1024
"""A refusal longer than this goes to the client without a try elsewhere."""

_CACHED_TOKENS = b'"cached_tokens":'
"""As a key of usage; within a text of JSON its quotes would be escaped."""

_NUMBER = re.compile(rb" ?(\d{1,15})")


class Relay:
    """The answer of one worker to one request; a `Receiver`.

    With `may_hold`, a worker's refusal that says that it has not started is kept back: `is_held`. `on_first_byte` is
    called before the first byte of a body goes out. `outcome` is None until the answer has ended, `failure` says why
    there is none, or no whole one.
    """

    __slots__ = (
        "_client",
        "_connection",
        "_held",
        "_idle_seconds",
        "_is_congested",
        "_last_seconds",
        "_loop",
        "_may_hold",
        "_num_held_bytes",
        "_on_first_byte",
        "_own_lines",
        "_timer",
        "_wake",
        "_worker_url",
        "answered_ns",
        "cached_tokens",
        "failure",
        "first_byte_ns",
        "head",
        "num_bytes",
        "num_pieces",
        "outcome",
        "watched",
    )

    def __init__(
        self,
        client: ClientAnswer,
        own_lines: bytes,
        *,
        may_hold: bool,
        idle_seconds: float,
        worker_url: bytes,
        on_first_byte: Callable[[AnswerHead], None],
    ) -> None:
        self._client = client
        self._own_lines = own_lines
        self._may_hold = may_hold
        self._idle_seconds = idle_seconds
        self._worker_url = worker_url
        self._on_first_byte = on_first_byte
        self._loop = asyncio.get_running_loop()
        self._connection: UpstreamConnection | None = None
        self._held: list[bytes] | None = None
        self._num_held_bytes = 0
        self._is_congested = False
        self._last_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.Future[None] | None = None
        self.head: AnswerHead | None = None
        self.failure: Failure | None = None
        self.outcome: Outcome | None = None
        self.answered_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.num_bytes = 0
        self.num_pieces = 0
        self.cached_tokens: int | None = None
        self.watched: Watched | None = None
        """Counts the pieces after the first."""

    @property
    def is_held(self) -> bool:
        """Whether the answer is a refusal that has come whole, and of which the client knows nothing."""
        return self._held is not None and self.outcome is Outcome.REFUSED

    async def run(self, connection: UpstreamConnection, head: bytes, body: bytes, *, is_head: bool) -> None:
        """Send a request and return when its answer has ended, in whatever way; cancelled, it closes the connection."""
        self._connection = connection
        try:
            connection.send(head, body, self, is_head=is_head)
            while self.outcome is None:
                if self._is_congested:
                    await self._keep_pace(connection)
                else:
                    self._wake = self._loop.create_future()
                    await self._wake
        finally:
            if self.outcome is None:
                self._leave()

    def begin(self, head: AnswerHead) -> None:
        """Take the head of the answer."""
        head = self.head = head._replace(fields=without_worker(head.fields, self._worker_url))
        self.answered_ns = monotonic_ns()
        is_refusal = outcome_of(head.status) is Outcome.REFUSED
        if self._may_hold and is_refusal and any(name.lower() == NOT_STARTED for name, _ in head.fields):
            self._held = []
        else:
            self._client.begin(head, self._own_lines)

    def data(self, piece: bytes, *, is_last: bool) -> None:
        """Pass a piece of the body on."""
        if self._held is not None:
            self._hold(piece, is_last=is_last)
        else:
            self._pass(piece, is_last=is_last)

    def fail(self, failure: Failure) -> None:
        """Take it that no more comes."""
        self.failure = failure
        self._end(failure.outcome)

    def release(self) -> None:
        """Give the client the answer that was held."""
        assert self.is_held
        assert self.head is not None
        pieces, self._held = self._held, None
        self._client.begin(self.head, self._own_lines)
        self._pass(b"".join(pieces or ()), is_last=True)

    def _hold(self, piece: bytes, *, is_last: bool) -> None:
        """Keep a piece of a refusal, or all of it no longer if it is long."""
        assert self._held is not None
        self._held.append(piece)
        self._num_held_bytes += len(piece)
        if self._num_held_bytes > MAX_HELD_BYTES:
            assert self.head is not None
            pieces, self._held = self._held, None
            self._client.begin(self.head, self._own_lines)
            self._pass(b"".join(pieces), is_last=is_last)
        elif is_last:
            self._end(Outcome.REFUSED)
        else:
            self._goes_on()

    def _pass(self, piece: bytes, *, is_last: bool) -> None:
        client = self._client
        if client.is_gone:
            self._leave()
            return
        if piece:
            if not self.num_pieces:
                self._first_byte()
            elif self.watched is not None:
                self.watched.tokens += 1
            self.num_pieces += 1
            self.num_bytes += len(piece)
            at = piece.rfind(_CACHED_TOKENS)
            if at >= 0 and (number := _NUMBER.match(piece, at + len(_CACHED_TOKENS))):
                self.cached_tokens = int(number[1])
        client.write(piece, is_last=is_last)
        if is_last:
            assert self.head is not None
            self._end(outcome_of(self.head.status))
            return
        self._goes_on()
        if client.is_congested:
            self._is_congested = True
            assert self._connection is not None
            self._connection.pause()
            self._wake_up()

    def _first_byte(self) -> None:
        self.first_byte_ns = monotonic_ns()
        assert self.head is not None
        self._on_first_byte(self.head)

    def _goes_on(self) -> None:
        self._last_seconds = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_seconds, self._check_pace)

    def _check_pace(self) -> None:
        """End an answer that has paused for too long, and look again later at any other."""
        now_seconds = self._loop.time()
        if self._is_congested:
            self._last_seconds = now_seconds
        idle_until_seconds = self._last_seconds + self._idle_seconds
        if now_seconds < idle_until_seconds:
            self._timer = self._loop.call_at(idle_until_seconds, self._check_pace)
            return
        assert self._connection is not None
        self._connection.abort()
        message = f"The worker paused its answer for more than {self._idle_seconds:g} seconds."
        self.fail(Failure(Outcome.BROKEN, message))

    async def _keep_pace(self, connection: UpstreamConnection) -> None:
        """Read on from the worker when the client has read; one that reads nothing for too long is taken to be gone."""
        try:
            await self._client.drain(self._idle_seconds)
        except ConnectionError:
            self._leave()
            return
        self._is_congested = False
        self._last_seconds = self._loop.time()
        connection.resume()

    def _leave(self) -> None:
        assert self._connection is not None
        self._connection.abort()
        self._end(Outcome.CLIENT_LEFT)

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
