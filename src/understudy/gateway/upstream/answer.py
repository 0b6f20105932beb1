"""What a worker answers, as whoever asked it hears of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from understudy.gateway.outcome import Outcome


class AnswerHead(NamedTuple):
    """Status line and headers of an answer; the headers as they came, free of control characters."""

    status: int
    reason: bytes
    fields: Sequence[tuple[bytes, bytes]]


class Failure(NamedTuple):
    """Why an answer does not come, or not to its end: UNANSWERED or BROKEN, and a sentence for the client."""

    outcome: Outcome
    message: str


class Receiver(Protocol):
    """Gets one answer, from within the event loop's reading: `begin`, then `data` up to the last, or `fail` instead.

    No call of these comes after the last piece, a failure, or `UpstreamConnection.abort`.
    """

    def begin(self, head: AnswerHead) -> None:
        """Take the head; a piece of the body, perhaps an empty one, follows in the same turn."""

    def data(self, piece: bytes, *, is_last: bool) -> None:
        """Take some of the body, without framing."""

    def fail(self, failure: Failure) -> None:
        """Take it that no more comes."""
