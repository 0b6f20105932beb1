"""A subscriber of KV events."""

from typing import Any

import msgspec
import zmq
from tests.testing.client import complete

from understudy.testing import ServerHandle

Batch = tuple[int, list[Any]]
"""A sequence number, and the events of the batch: each a map with its type."""


def subscribe(subscriber: "zmq.Socket[bytes]", endpoint: str, server: ServerHandle) -> None:
    """Return when the subscriber hears the server, and has read all; prompts are sent until it does."""
    subscriber.subscribe(b"")
    subscriber.connect(endpoint)
    number = 100
    while not subscriber.poll(10):
        number += 1
        complete(server, prompt=[number] * 16, max_tokens=1)
    read(subscriber)


def read(subscriber: "zmq.Socket[bytes]", wait_ms: int = 50) -> list[Batch]:
    """Read batches until none comes for a while."""
    batches: list[Batch] = []
    while subscriber.poll(wait_ms):
        _, sequence, payload = subscriber.recv_multipart()
        batches.append((int.from_bytes(sequence, "big"), msgspec.msgpack.decode(payload)[1]))
    return batches
