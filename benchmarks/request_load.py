"""Loads for a router: short chats, and streams of which each event says when its worker sent it.

Over `select`, without a parser of HTTP, in one thread: what is measured is not the client.
"""

import contextlib
import itertools
import json
import re
import select
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.routing_upstream import SENT

SYSTEM_PROMPTS = 8
PROMPTS = 64
PROMPT_BYTES = 200

_PATH = "/v1/chat/completions"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_READ_BYTES = 1 << 16
_CHUNKS_END = b"\r\n0\r\n\r\n"
_NS_PER_SECOND = 1e9


class Answered(NamedTuple):
    """For each request the time from its sending to the end of its answer, and how long all took."""

    latencies_ns: list[int]
    wall_seconds: float


class Delays(NamedTuple):
    """How long after workers sent them events arrived: the first of each stream, and all others."""

    first_ns: list[int]
    later_ns: list[int]


def chats(tokens: int | None = None) -> list[bytes]:
    """Return short chats over a few system prompts; with `tokens`, they ask for streams of so many."""
    requests = []
    for number in range(PROMPTS):
        system = f"You are assistant {number % SYSTEM_PROMPTS}. " + "Answer briefly and kindly. " * 4
        question = f"question {number}: "
        question += "x" * (PROMPT_BYTES - len(system) - len(question))
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        chat = {"model": "m", "messages": messages, "temperature": 0}
        wishes = {} if tokens is None else {"stream": True, "max_tokens": tokens}
        body = json.dumps(chat | wishes).encode()
        head = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    return requests


def ask(port: int, connections: int, num_requests: int, per_second: float | None = None) -> Answered:
    """Send short chats over connections that stay open: so many a second, or the next one as soon as one is answered.

    Raises AssertionError for an answer that is none.
    """
    requests = chats()
    latencies_ns: list[int] = []
    with _connected(port, connections) as sockets:
        idle, buffers = sockets.copy(), dict.fromkeys(sockets, b"")
        sent_ns: dict[socket.socket, int] = {}
        num_sent, start_ns = 0, time.monotonic_ns()
        while len(latencies_ns) < num_requests:
            passed_seconds = (time.monotonic_ns() - start_ns) / _NS_PER_SECOND
            due = num_requests if per_second is None else min(int(passed_seconds * per_second), num_requests)
            while idle and num_sent < due:
                sock = idle.pop()
                sent_ns[sock] = time.monotonic_ns()
                sock.sendall(requests[num_sent % PROMPTS])
                num_sent += 1
            wait_seconds = None
            if idle and num_sent < num_requests and per_second is not None:
                wait_seconds = max((num_sent + 1) / per_second - passed_seconds, 0)
            for sock in select.select(sockets, (), (), wait_seconds)[0]:
                buffers[sock] += _received(sock)
                if _is_whole(buffers[sock]):
                    latencies_ns.append(time.monotonic_ns() - sent_ns[sock])
                    buffers[sock] = b""
                    idle.append(sock)
        return Answered(latencies_ns, (time.monotonic_ns() - start_ns) / _NS_PER_SECOND)


def stream_delays(port: int, connections: int, num_streams: int, tokens: int) -> Delays:
    """Ask for streams over connections that stay open, on each one after the other. Raises AssertionError as `ask`."""
    requests = chats(tokens)
    delays = Delays([], [])
    with _connected(port, connections) as sockets:
        numbers = iter(range(num_streams))
        seen, buffers = dict.fromkeys(sockets, 0), dict.fromkeys(sockets, b"")
        for sock, number in zip(sockets, numbers, strict=False):
            sock.sendall(requests[number % PROMPTS])
        while len(delays.first_ns) < num_streams or any(buffers.values()):
            for sock in select.select(sockets, (), ())[0]:
                buffers[sock] += _received(sock)
                now_ns = time.monotonic_ns()
                stamps = SENT.findall(buffers[sock])
                for place in range(seen[sock], len(stamps)):
                    (delays.later_ns if place else delays.first_ns).append(now_ns - int(stamps[place]))
                seen[sock] = len(stamps)
                if buffers[sock].endswith(_CHUNKS_END):
                    assert len(stamps) == tokens, f"{len(stamps)} events in place of {tokens}"
                    seen[sock], buffers[sock] = 0, b""
                    for following in itertools.islice(numbers, 1):
                        sock.sendall(requests[following % PROMPTS])
    return delays


@contextlib.contextmanager
def _connected(port: int, connections: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(connections)
        ]
        for sock in sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sockets


def _received(sock: socket.socket) -> bytes:
    new = sock.recv(_READ_BYTES)
    assert new, "the server closed the connection"
    return new


def _is_whole(answer: bytes) -> bool:
    head, ends, body = answer.partition(b"\r\n\r\n")
    if not ends:
        return False
    assert b" 200 " in head.partition(b"\r\n")[0], answer
    length = _LENGTH.search(head)
    return body.endswith(_CHUNKS_END) if length is None else len(body) >= int(length[1])
