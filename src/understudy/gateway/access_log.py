"""One line of JSON for each request, without anything that a client wrote in its body but the model's name, and without keys."""

import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import msgspec

from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome

MAX_CHARACTERS = 200
"""Of what a client may choose freely, no more is told."""

_NS_PER_MS = 1e6

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Writes to a stream, standard error if none is given; an observer of the forwarder.

    Each line is one write, so that lines of others stand before or behind it, never within.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream if stream is not None else getattr(sys.stderr, "buffer", None)

    def answered(self, exchange: Exchange) -> None:
        """Write a line about a request at its end."""
        if self._stream is None:
            return
        try:
            self._stream.write(_encode({"time": round(time.time(), 3), **facts_of(exchange)}) + b"\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # a reader of the log that has gone must not end answers

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Write nothing: the line at the end counts the attempts."""


def facts_of(exchange: Exchange) -> Mapping[str, Any]:
    """Return what is told of a request, by name; times are in milliseconds, None for what did not happen."""
    return {
        "request_id": _told(exchange.request_id),
        "method": _told(exchange.method),
        "path": _told(exchange.path),
        "status": exchange.status,
        "model": None if exchange.model is None else _told(exchange.model),
        "worker": exchange.worker,
        "reason": exchange.reason,
        "outcome": exchange.outcome,
        "attempts": exchange.attempts,
        "stream": exchange.is_stream,
        "prompt_tokens": exchange.prompt_tokens,
        "predicted_cached_tokens": exchange.predicted_cached_tokens,
        "cached_tokens": exchange.actual_cached_tokens,
        "request_bytes": exchange.request_bytes,
        "answer_bytes": exchange.body_bytes,
        "routing_ms": _ms(0, exchange.routing_ns),
        "first_byte_ms": _ms(exchange.received_ns, exchange.first_byte_ns),
        "total_ms": _ms(exchange.received_ns, exchange.ended_ns),
        "key": exchange.key_id,
    }


def _told(text: str) -> str:
    """Return the start of a text; bytes that are no UTF-8 stand as escapes."""
    text = text[:MAX_CHARACTERS]
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _ms(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else round((end_ns - start_ns) / _NS_PER_MS, 3)
