"""A worker that answers at once and takes next to no time, so that what is measured is the router.

    python -m benchmarks.routing_upstream --port 8461 --event-bytes 280 --token-seconds 0.02 --engines 8

Over `poll`, with ready bytes: a request that asks for `max_tokens` gets so many events, one each `--token-seconds`; any other
gets a short answer in JSON. Streams are spread over `--engines`, of which each gives all its streams their tokens together,
as from a step, and no two at the same time.
"""

import argparse
import itertools
import re
import select
import socket
import time

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_BODY = b'{"id":"cmpl-0","choices":[{"text":"' + b"x" * 200 + b'"}],"usage":{"prompt_tokens":9}}'
_SHORT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
_EVENT = b'data: {"text":"%b"}\n\n'
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_tokens": (\d+)')
_READ_BYTES = 1 << 16


class Worker:
    """Connections with the tokens that their answers lack."""

    def __init__(self, port: int, event_bytes: int, token_seconds: float, num_engines: int) -> None:
        text = b"x" * (event_bytes - len(_EVENT % b""))
        event = _EVENT % text
        self._piece = b"%x\r\n%b\r\n" % (len(event), event)
        self._step_seconds = token_seconds / num_engines
        self._listener = socket.create_server(("127.0.0.1", port), backlog=2048)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._read: dict[int, bytes] = {}
        self._lacking: list[dict[int, int]] = [{} for _ in range(num_engines)]

    def serve(self) -> None:
        """Serve until the process is ended."""
        due_seconds = time.monotonic()
        for lacking in itertools.cycle(self._lacking):
            while (wait_seconds := due_seconds - time.monotonic()) > 0:
                for number, _ in self._poll.poll(wait_seconds * 1000 if any(self._lacking) else None):
                    self._ready(number)
            self._step(lacking)
            due_seconds = max(due_seconds, time.monotonic() - self._step_seconds) + self._step_seconds

    def _ready(self, number: int) -> None:
        if number == self._listener.fileno():
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[sock.fileno()] = sock
            self._read[sock.fileno()] = b""
            self._poll.register(sock, select.POLLIN)
            return
        new = self._sockets[number].recv(_READ_BYTES)
        if not new:
            self._poll.unregister(number)
            self._engine(number).pop(number, None)
            self._sockets.pop(number).close()
            return
        self._read[number] += new
        head, ends, body = self._read[number].partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not ends or (length is not None and len(body) < int(length[1])):
            return
        self._read[number] = b""
        tokens = _TOKENS.search(body)
        if tokens is None:
            self._sockets[number].sendall(_SHORT)
        else:
            self._engine(number)[number] = int(tokens[1])
            self._sockets[number].sendall(_STREAM_HEAD)

    def _engine(self, number: int) -> dict[int, int]:
        return self._lacking[number % len(self._lacking)]

    def _step(self, lacking: dict[int, int]) -> None:
        for number in list(lacking):
            lacking[number] -= 1
            is_last = lacking[number] == 0
            self._sockets[number].sendall(self._piece + _END if is_last else self._piece)
            if is_last:
                del lacking[number]


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--event-bytes", type=int, default=280, help="bytes of an event (default 280)")
    parser.add_argument("--token-seconds", type=float, default=0.02, help="seconds a token (default 0.02)")
    parser.add_argument("--engines", type=int, default=8, help="engines (default 8)")
    options = parser.parse_args()
    Worker(options.port, options.event_bytes, options.token_seconds, options.engines).serve()


if __name__ == "__main__":
    main()
