"""Server-sent events as vLLM frames them."""

import msgspec

from understudy.wire.made import listed

DONE = b"data: [DONE]\n\n"
"""The last event of every stream of completions and chats."""

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment that keeps idle connections open."""

encode = msgspec.json.Encoder(enc_hook=listed).encode
"""Encodes a value as stream chunks have it: no spaces, UTF-8."""


def event(value: object) -> bytes:
    """Return one unnamed event."""
    return b"data: %b\n\n" % encode(value)


def named_event(name: str, value: object) -> bytes:
    """Return one event with a name, as the responses API sends them."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(value))
