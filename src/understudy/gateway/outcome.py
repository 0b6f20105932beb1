"""How a request to one worker ends."""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a request that was given to a worker."""

    COMPLETE = "complete"
    """The answer came whole; its status may well be an error of the client's."""
    CLIENT_LEFT = "client_left"
    """The client went, or took nothing for too long."""
    CONNECT_FAILED = "connect_failed"
    """There was no connection, so the worker knows nothing of the request."""
    UNANSWERED = "unanswered"
    """The connection was lost before a byte of an answer; the worker may have begun."""
    BROKEN = "broken"
    """The answer was no HTTP, broke off, or stood still for too long."""
    REFUSED = "refused"
    """The worker is overloaded: 429 or 503."""
    SERVER_ERROR = "server_error"
    """Another 5xx."""


def outcome_of(status: int) -> Outcome:
    """Return the outcome of an answer that came whole."""
    if status in {429, 503}:
        return Outcome.REFUSED
    return Outcome.SERVER_ERROR if status >= 500 else Outcome.COMPLETE
