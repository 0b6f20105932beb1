"""Finished requests, as observers hear of them."""

from typing import Any

from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome

MS = 1_000_000


def exchange(**facts: Any) -> Exchange:
    """Return a completion that one worker answered, but for these facts."""
    given: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/completions",
        "model": "m",
        "request_id": "r",
        "traceparent": None,
        "key_id": None,
        "has_prompt": True,
        "prompt_tokens": 100,
        "request_bytes": 300,
        "status": 200,
        "is_stream": True,
        "worker": "http://w",
        "reason": "prefix",
        "outcome": Outcome.COMPLETE,
        "attempts": 1,
        "predicted_cached_tokens": 64,
        "actual_cached_tokens": 48,
        "body_bytes": 1000,
        "chunks": 4,
        "received_ns": 1000 * MS,
        "routing_ns": MS // 10,
        "dispatched_ns": 1001 * MS,
        "answered_ns": 1010 * MS,
        "first_byte_ns": 1020 * MS,
        "ended_ns": 1500 * MS,
    }
    return Exchange(**given | facts)
