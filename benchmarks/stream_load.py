"""A load of streams over raw sockets, as light as Python can make it, so that what is measured is the server."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import NamedTuple

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

_DONE = b"data: [DONE]"
_EVENT = b"data: {"
_TAIL_BYTES = 64
"""So much is kept of what was read, so that nothing is missed where two reads meet."""

_TEXT = "say something long about the weather " * 8


class Load(NamedTuple):
    """What is asked of a server: `streams` clients send `requests` in all, each one after the other, each of `tokens` tokens.

    The clients begin evenly within `ramp_seconds`; if `is_uneven` answers are of half to one and a half times `tokens`.
    """

    path: str
    streams: int
    requests: int
    tokens: int
    ramp_seconds: float = 0.0
    is_uneven: bool = False

    def tokens_of(self, number: int) -> int:
        """Return the tokens of an answer."""
        return self.tokens // 2 + number * 37 % self.tokens if self.is_uneven else self.tokens

    @property
    def total_tokens(self) -> int:
        """Tokens in all answers."""
        return sum(map(self.tokens_of, range(self.requests)))


class LoadResult(NamedTuple):
    """What came back: events with data, bytes without the heads of answers, and how long it took."""

    events: int
    num_bytes: int
    wall_seconds: float


def run_load(port: int, load: Load, model: str = "m") -> LoadResult:
    """Put a load on a server on this machine. Raises AssertionError for an answer that is not a whole stream."""
    return asyncio.run(_run(port, load, model))


async def _run(port: int, load: Load, model: str) -> LoadResult:
    numbers = iter(range(load.requests))
    start_seconds = time.monotonic()
    pause_seconds = load.ramp_seconds / load.streams
    clients = (_client(port, numbers, load, model, index * pause_seconds) for index in range(load.streams))
    events, sizes = zip(*await asyncio.gather(*clients), strict=True)
    return LoadResult(sum(events), sum(sizes), time.monotonic() - start_seconds)


async def _client(
    port: int, numbers: Iterator[int], load: Load, model: str, wait_seconds: float
) -> tuple[int, int]:
    """Send one request after the other over one connection; return the events seen and their bytes."""
    await asyncio.sleep(wait_seconds)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    events = num_bytes = 0
    for number in numbers:
        writer.write(request_bytes(load.path, model, load.tokens_of(number), number))
        new_events, new_bytes = await _read_answer(reader)
        events += new_events
        num_bytes += new_bytes
    writer.close()
    return events, num_bytes


def request_bytes(path: str, model: str, tokens: int, number: int) -> bytes:
    """Return a request for a stream of so many tokens; those of different numbers share no prefix."""
    request = {"model": model, "max_tokens": tokens, "stream": True, "ignore_eos": True}
    text = f"request {number}: {_TEXT}"
    asked = {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"prompt": text}
    body = json.dumps(request | asked).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Read one chunked answer to its end; return its events with data and its bytes behind the head."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n", 1)[0], head
    events = num_bytes = 0
    tail = b""
    while True:
        new = await reader.read(1 << 18)
        assert new, "the server closed the connection"
        num_bytes += len(new)
        data = tail + new
        events += data.count(_EVENT) - tail.count(_EVENT)
        if data.endswith(b"0\r\n\r\n") and _DONE in data[-_TAIL_BYTES:]:
            return events, num_bytes
        tail = data[-_TAIL_BYTES:]
