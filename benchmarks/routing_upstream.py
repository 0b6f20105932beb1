"""A worker that answers at once and takes next to no time, so that what is measured is the router.

    python -m benchmarks.routing_upstream --port 8461 --event-bytes 280 --token-seconds 0.02 --engines 8

Over `poll`, with ready bytes: a request that asks for `max_tokens` gets so many events, one each `--token-seconds`; any other
POST a short answer in JSON. Streams are spread over `--engines`, of which each gives all its streams their tokens together,
as from a step, and no two at the same time. Each event says when it was sent, by `time.monotonic_ns`.

It also says what routers ask of a worker before they use it: health, models, load, and to vllm-router the tokens of a prompt.
"""

import argparse
import itertools
import re
import select
import socket
import time

SENT = re.compile(rb'"sent_ns":(\d{20})')
"""When an event was sent."""

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_BODY = b'{"id":"cmpl-0","choices":[{"text":"' + b"x" * 200 + b'"}],"usage":{"prompt_tokens":9}}'
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm"}]}'
_INFO = b'{"model_path":"m","served_model_name":"m","tokenizer_path":"m","is_generation":true,"dp_size":1}'
_LOAD = b"vllm:num_requests_running 1\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0.1\n"
_ROUTE = re.compile(rb"(GET|POST) (\S+) ")
_EVENT = (b'data: {"sent_ns":', b',"text":"', b'"}\n\n')
_STAMP = b"%020d"
_BYTES_A_TOKEN = 4
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
_READ_BYTES = 1 << 16


def answer_of(status: bytes, body: bytes) -> bytes:
    """Return a whole answer."""
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_SHORT = answer_of(b"200 OK", _BODY)
_GET = {
    b"/health": answer_of(b"200 OK", b""),
    b"/v1/models": answer_of(b"200 OK", _MODELS),
    b"/metrics": answer_of(b"200 OK", _LOAD),
    b"/get_model_info": answer_of(b"200 OK", _INFO),
    b"/model_info": answer_of(b"200 OK", _INFO),
    b"/get_server_info": answer_of(b"200 OK", _INFO),
    b"/server_info": answer_of(b"200 OK", _INFO),
}
_NOT_FOUND = answer_of(b"404 Not Found", b"{}")


def ready_answer(head: bytes, body: bytes) -> bytes:
    """Return the answer to a request that is no stream."""
    route = _ROUTE.match(head)
    if route is None or route[1] == b"GET":
        return _NOT_FOUND if route is None else _GET.get(route[2], _NOT_FOUND)
    if route[2].endswith(b"/render"):
        return answer_of(
            b"200 OK", b'{"request_id":"r","token_ids":%b}' % str([*body[::_BYTES_A_TOKEN]]).encode()
        )
    return _SHORT


class Worker:
    """Connections with the tokens that their answers lack."""

    def __init__(self, port: int, event_bytes: int, token_seconds: float, num_engines: int) -> None:
        begin, middle, end = _EVENT
        filler = b"x" * (event_bytes - sum(map(len, _EVENT)) - len(_STAMP % 0))
        self._before = b"%x\r\n%b" % (event_bytes, begin)
        self._after = middle + filler + end + b"\r\n"
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
        tokens = None if b"/render" in head else _TOKENS.search(body)
        if tokens is None:
            self._sockets[number].sendall(ready_answer(head, body))
        else:
            self._engine(number)[number] = int(tokens[1])
            self._sockets[number].sendall(_STREAM_HEAD)

    def _engine(self, number: int) -> dict[int, int]:
        return self._lacking[number % len(self._lacking)]

    def _step(self, lacking: dict[int, int]) -> None:
        for number in list(lacking):
            lacking[number] -= 1
            is_last = lacking[number] == 0
            piece = self._before + _STAMP % time.monotonic_ns() + self._after
            self._sockets[number].sendall(piece + _END if is_last else piece)
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
