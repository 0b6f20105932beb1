"""The least that a server of streams can do: ready bytes, one write a stream and step, with nothing above the sockets.

    python -m benchmarks.floor_server --port 8450 --event-bytes 280 --token-seconds 0.01

Of a request it reads where it ends and how many tokens it asks for, no more. All events are the same bytes, made before
the first request comes. What is left is the time of the kernel, and that of one call from Python a write.
"""

import argparse
import re
import select
import socket
import time
from collections.abc import Iterable

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_EVENT = b'data: {"text":"%b"}\n\n'

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_tokens": (\d+)')

_BACKLOG = 2048
_MOST_READ_BYTES = 1 << 16


class Stream:
    """A connection: what is read of a request, and how many tokens its answer lacks."""

    __slots__ = ("asked", "num_tokens", "send", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send = sock.sendall
        self.asked = b""
        self.num_tokens = 0

    def read(self) -> bool:
        """Take what has come, and begin an answer if it ends a request; False if the client is gone."""
        new = self.sock.recv(_MOST_READ_BYTES)
        self.asked += new
        head, ends, body = self.asked.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not ends or (length is not None and len(body) < int(length[1])):
            return bool(new)
        tokens = _TOKENS.search(body)
        self.num_tokens = 0 if tokens is None else int(tokens[1])
        self.send(_HEAD if self.num_tokens else _EMPTY)
        self.asked = b""
        return True


def serve(port: int, piece: bytes, tokens_a_piece: int, piece_seconds: float) -> None:
    """Serve until the process is ended; all streams get a piece together, every so many seconds, 0 for no waiting."""
    listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    streams: dict[int, Stream] = {}
    growing: dict[int, Stream] = {}
    due_seconds = time.monotonic()
    while True:
        for number, _ in poll.poll(max(0.0, due_seconds - time.monotonic()) if growing else None):
            if number == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                streams[sock.fileno()] = Stream(sock)
                poll.register(sock, select.EPOLLIN)
            elif not streams[number].read():
                growing.pop(number, None)
                streams.pop(number).sock.close()
            elif streams[number].num_tokens:
                growing[number] = streams[number]
        now_seconds = time.monotonic()
        if growing and now_seconds >= due_seconds:
            for number in _write(growing.values(), piece, tokens_a_piece):
                del growing[number]
            due_seconds = max(due_seconds, now_seconds - piece_seconds) + piece_seconds


def _write(streams: Iterable[Stream], piece: bytes, num_tokens: int) -> list[int]:
    """Write the next piece to each stream; return the file numbers of those whose answers are whole."""
    done: list[int] = []
    for stream in streams:
        stream.num_tokens -= num_tokens
        if stream.num_tokens > 0:
            stream.send(piece)
        else:
            stream.send(piece + _END)
            done.append(stream.sock.fileno())
    return done


def ready_piece(event_bytes: int, num_tokens: int) -> bytes:
    """Return the chunks of so many events, each of `event_bytes` without what HTTP puts around it."""
    event = _EVENT % (b"x" * (event_bytes - len(_EVENT % b"")))
    return b"%x\r\n%b\r\n" % (len(event), event) * num_tokens


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--event-bytes", type=int, required=True, help="bytes of an event")
    parser.add_argument("--tokens-a-write", type=int, default=1, help="events in one write (default 1)")
    parser.add_argument("--token-seconds", type=float, default=0.0, help="seconds a token (default 0)")
    options = parser.parse_args()
    tokens = options.tokens_a_write
    serve(options.port, ready_piece(options.event_bytes, tokens), tokens, tokens * options.token_seconds)


if __name__ == "__main__":
    main()
