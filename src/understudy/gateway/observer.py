"""What is told about each request to whoever counts, logs or traces."""

from dataclasses import dataclass
from typing import Protocol

from understudy.gateway.member import Member
from understudy.gateway.outcome import Outcome

CLIENT_LEFT_STATUS = 499
"""Stands for the status that a client did not wait for; nginx's."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """All facts of one client's request; complete when an observer gets it.

    Times are of `time.monotonic_ns`, None for what did not happen. What is said of a worker is of the one asked last.
    """

    method: str
    path: str
    """Undecoded, without the query."""
    model: str | None
    request_id: str
    """The client's X-Request-Id, or the one that the router made."""
    traceparent: str | None
    key_id: str | None
    has_prompt: bool
    prompt_tokens: int
    request_bytes: int

    status: int = CLIENT_LEFT_STATUS
    """What the client was answered; 499 where it left before."""
    is_stream: bool = False
    """Whether the answer was of server-sent events."""
    worker: str | None = None
    reason: str | None = None
    outcome: Outcome | None = None
    """None where no worker was asked."""
    attempts: int = 0
    """Workers that were asked."""
    predicted_cached_tokens: int = 0
    actual_cached_tokens: int | None = None
    """What the answer's usage says; None if it says nothing, or says it where two reads from the worker meet."""
    body_bytes: int = 0
    """Body that the client was sent, without framing."""
    chunks: int = 0
    """Pieces in which it came."""

    received_ns: int
    routing_ns: int = 0
    """What tokens, hashes and the choice took."""
    dispatched_ns: int | None = None
    answered_ns: int | None = None
    """When the head of the answer came."""
    first_byte_ns: int | None = None
    """When the first byte of its body came."""
    ended_ns: int = 0


class Observer(Protocol):
    """Hears of every request."""

    def answered(self, exchange: Exchange) -> None:
        """Hear all about a request, once, at its end."""

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Hear that a worker did not answer a request, with this outcome, and that another one is asked."""
