"""Forwards requests: asks one worker, another where that is safe, and tells the client what became of it.

Safe is a second worker only while nothing has reached the client, and where the first has not begun: it could not be
connected to, or says so itself. Whether one that took the request and left without a word may have begun nobody knows;
the operator decides.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from secrets import token_hex
from time import monotonic_ns
from typing import Protocol

from aiohttp import web

from understudy.gateway.admission import RETRY_AFTER_SECONDS, Admission, QueueFullError, QueueTimeoutError
from understudy.gateway.choice import Choice, usable_tokens
from understudy.gateway.client import ClientAnswer
from understudy.gateway.headers import OF_REQUESTS, REASON, REQUEST_ID, WORKER, header_safe, passing
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange, Observer
from understudy.gateway.outcome import Outcome
from understudy.gateway.relay import Relay
from understudy.gateway.upstream import AnswerHead, ConnectFailedError, Failure
from understudy.routing import RetryBudget, Watched
from understudy.web import CorsPolicy
from understudy.wire.errors import ApiError

_METHODS_WITHOUT_BODY = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "TRACE"})
"""A request of another method says that its body is empty, if it is."""

_NO_CONNECTION = "The router could not connect to a worker."


class Fleet(Protocol):
    """The workers, and who chooses among them."""

    def choose(self, inbound: Inbound, tried: Collection[Member]) -> Choice | None:
        """Return who gets a request, out of those not tried; None if nobody may."""

    def dispatched(self, choice: Choice, *, wants_stream: bool) -> Watched | None:
        """Count a request as in flight from here; what is returned counts the pieces of its answer after the first."""

    def first_token(self, choice: Choice) -> None:
        """Note the first byte of the body of a 2xx answer."""

    def finished(self, choice: Choice, outcome: Outcome) -> None:
        """Note the end of a request; once for each that was dispatched."""


Read = Callable[[web.Request], Awaitable[Inbound]]
"""Reads a request, and finds out what it asks for; what it raises is the client's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSettings:
    """How requests are forwarded; as the flags of `understudy route` of the same names."""

    retries: int = 3
    retry_unanswered: bool = False
    idle_seconds: float = 300.0
    worker_headers: bool = True


class Forwarder:
    """Answers every request with a worker's answer. `settings` may be replaced at any time."""

    def __init__(
        self,
        fleet: Fleet,
        read: Read,
        observer: Observer,
        retry_budget: RetryBudget,
        settings: ForwardSettings,
        *,
        admission: Admission | None = None,
        cors: CorsPolicy | None = None,
    ) -> None:
        self.fleet = fleet
        self.read = read
        self.observer = observer
        self.retry_budget = retry_budget
        self.settings = settings
        self.admission = admission
        self.cors = cors

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward a request. Nothing of it is left behind when this returns, raises or is cancelled."""
        received_ns = monotonic_ns()
        inbound = await self.read(request)
        forwarding = _Forwarding(self, request, inbound, received_ns)
        self.retry_budget.request_began()
        try:
            try:
                return await forwarding.run()
            except Exception:
                forwarding.exchange.status = HTTPStatus.INTERNAL_SERVER_ERROR
                raise
            finally:
                self.retry_budget.request_ended()
                forwarding.exchange.ended_ns = monotonic_ns()
                self.observer.answered(forwarding.exchange)
        except Exception:
            forwarding.give_up()
            raise


class _Forwarding:
    """One request on its way."""

    __slots__ = (
        "_client",
        "_fields",
        "_forwarder",
        "_inbound",
        "_is_retry",
        "_settings",
        "_tried",
        "exchange",
    )

    def __init__(
        self, forwarder: Forwarder, request: web.Request, inbound: Inbound, received_ns: int
    ) -> None:
        self._forwarder = forwarder
        self._settings = forwarder.settings
        self._inbound = inbound
        self._tried: list[Member] = []
        self._is_retry = False
        lines, values = passing(inbound.headers, OF_REQUESTS)
        request_id = values.get(b"x-request-id")
        if request_id is None:
            request_id = token_hex(16).encode()
            lines += b"%b: %b\r\n" % (REQUEST_ID, request_id)
        if inbound.body or inbound.method not in _METHODS_WITHOUT_BODY:
            lines += b"Content-Length: %d\r\n" % len(inbound.body)
        self._fields = lines
        self._client = ClientAnswer(request, request_id, forwarder.cors)
        traceparent = values.get(b"traceparent")
        self.exchange = Exchange(
            method=inbound.method,
            path=inbound.target.partition("?")[0],
            model=inbound.model,
            request_id=request_id.decode(errors="replace"),
            traceparent=None if traceparent is None else traceparent.decode(errors="replace"),
            key_id=inbound.key_id,
            has_prompt=inbound.has_prompt,
            prompt_tokens=inbound.routing.num_prompt_tokens,
            request_bytes=len(inbound.body),
            received_ns=received_ns,
            routing_ns=inbound.hashing_ns,
        )

    async def run(self) -> web.StreamResponse:
        """Return the answer."""
        admission = self._forwarder.admission
        if admission is not None:
            try:
                await admission.enter(self._inbound.routing.priority, self._inbound.model)
            except QueueFullError:
                return self._refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests wait for a worker.")
            except QueueTimeoutError:
                return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "No worker was free in time.")
        choice = self._choose()
        if choice is None:
            return self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "No worker can take the request.")
        return await self._answer(await self._relay(choice))

    def give_up(self) -> None:
        """See to it that a client that has an answer, or some of one, gets no other behind it."""
        if self._client.has_begun:
            self._client.abort()

    def _choose(self) -> Choice | None:
        start_ns = monotonic_ns()
        choice = self._forwarder.fleet.choose(self._inbound, self._tried)
        self.exchange.routing_ns += monotonic_ns() - start_ns
        return choice

    async def _relay(self, choice: Choice) -> Relay:
        """Ask one worker after the other, until there is an answer or no more may be asked; return the last one's."""
        relay = await self._attempt(choice)
        while self._may_ask_another(relay):
            self._tried.append(choice.member)
            if not self._forwarder.retry_budget.try_retry():
                break
            self._is_retry = True
            try:
                other = self._choose()
                if other is None:
                    break
                assert relay.outcome is not None
                self._forwarder.observer.retried(choice.member, relay.outcome)
                choice = other
                relay = await self._attempt(choice)
            finally:
                self._retry_ended()
        return relay

    def _may_ask_another(self, relay: Relay) -> bool:
        if self._client.has_begun or len(self._tried) >= self._settings.retries:
            return False
        return (
            relay.is_held
            or relay.outcome is Outcome.CONNECT_FAILED
            or (relay.outcome is Outcome.UNANSWERED and self._settings.retry_unanswered)
        )

    def _retry_ended(self) -> None:
        if self._is_retry:
            self._is_retry = False
            self._forwarder.retry_budget.retry_ended()

    async def _attempt(self, choice: Choice) -> Relay:
        """Ask one worker."""
        fleet = self._forwarder.fleet
        inbound, upstream = self._inbound, choice.member.upstream

        def on_first_byte(head: AnswerHead) -> None:
            # Nobody else will be asked.
            inbound.body = b""
            self._retry_ended()
            if 200 <= head.status < 300:
                fleet.first_token(choice)

        relay = Relay(
            self._client,
            self._own_lines(choice),
            may_hold=len(self._tried) < self._settings.retries,
            idle_seconds=self._settings.idle_seconds,
            worker_url=upstream.address.url.encode(),
            on_first_byte=on_first_byte,
        )
        relay.watched = fleet.dispatched(choice, wants_stream=inbound.wants_stream)
        self._note_attempt(choice)
        try:
            connection = upstream.idle_connection() or await upstream.connect()
            head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
                inbound.method.encode(),
                (upstream.address.prefix + inbound.target).encode("utf-8", "surrogateescape"),
                upstream.address.authority,
                self._fields,
            )
            await relay.run(connection, head, inbound.body, is_head=inbound.method == "HEAD")
        except ConnectFailedError:
            relay.fail(Failure(Outcome.CONNECT_FAILED, _NO_CONNECTION))
        finally:
            outcome = relay.outcome or Outcome.CLIENT_LEFT
            self._note_end(relay, outcome)
            fleet.finished(choice, outcome)
        return relay

    def _own_lines(self, choice: Choice) -> bytes:
        """Return the headers by which a client learns who answered, and why it was them."""
        if not self._settings.worker_headers:
            return b""
        name, reason = header_safe(choice.member.name), header_safe(choice.decision.reason)
        return b"%b: %b\r\n%b: %b\r\n" % (WORKER, name, REASON, reason)

    def _note_attempt(self, choice: Choice) -> None:
        exchange, decision = self.exchange, choice.decision
        exchange.attempts += 1
        exchange.worker = choice.member.name
        exchange.reason = decision.reason
        exchange.dispatched_ns = monotonic_ns()
        exchange.predicted_cached_tokens = usable_tokens(decision.matched_blocks, choice.request)

    def _note_end(self, relay: Relay, outcome: Outcome) -> None:
        exchange = self.exchange
        exchange.outcome = outcome
        exchange.answered_ns = relay.answered_ns
        exchange.first_byte_ns = relay.first_byte_ns
        exchange.body_bytes = relay.num_bytes
        exchange.chunks = relay.num_pieces
        exchange.actual_cached_tokens = relay.cached_tokens
        if self._client.has_begun and relay.head is not None:
            exchange.status = relay.head.status
            exchange.is_stream = self._client.is_stream

    async def _answer(self, relay: Relay) -> web.StreamResponse:
        """Return what the client got, or give it what it has not got."""
        client = self._client
        if relay.is_held:
            relay.release()
            assert relay.outcome is not None
            self._note_end(relay, relay.outcome)
        if relay.failure is not None:
            error = ApiError(relay.failure.message, status=HTTPStatus.BAD_GATEWAY, kind="BadGatewayError")
            if not client.has_begun:
                return self._error(error, {})
            await client.break_off(error.completion_event, self._settings.idle_seconds)
        return client.for_aiohttp(self.exchange.status, self._settings.idle_seconds)

    def _refusal(self, status: HTTPStatus, message: str) -> web.Response:
        error = ApiError(message, status=status, kind=status.phrase)
        return self._error(error, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    def _error(self, error: ApiError, headers: dict[str, str]) -> web.Response:
        self.exchange.status = error.status
        headers[REQUEST_ID.decode()] = self.exchange.request_id
        return web.Response(
            status=error.status, body=error.body, content_type="application/json", headers=headers
        )
