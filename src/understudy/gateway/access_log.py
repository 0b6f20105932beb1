"""One line of JSON for each request, without anything that a client wrote in its body, and without keys."""

import sys
import time
from typing import BinaryIO

import msgspec

from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome

_MAX_CHARACTERS = 200
_NS_PER_MS = 1e6


class AccessLog:
    """Writes to a stream, standard error if none is given; an observer of the forwarder."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = sys.stderr.buffer if stream is None else stream
        self._encode = msgspec.json.Encoder().encode

    def answered(self, exchange: Exchange) -> None:
        """Write a line about a request at its end; times are in milliseconds."""
        line = {
            "time": round(time.time(), 3),
            "request_id": exchange.request_id[:_MAX_CHARACTERS],
            "method": exchange.method[:_MAX_CHARACTERS],
            "path": exchange.path[:_MAX_CHARACTERS],
            "status": exchange.status,
            "model": None if exchange.model is None else exchange.model[:_MAX_CHARACTERS],
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
        try:
            self._stream.write(self._encode(line) + b"\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # a reader of the log that has gone must not end answers

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Write nothing: the line at the end counts the attempts."""


def _ms(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else round((end_ns - start_ns) / _NS_PER_MS, 3)
