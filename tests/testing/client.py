"""A client in the test's own thread: a request is sent at once, and its answer read when there is some."""

import json
import select
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from understudy.testing import ServerHandle, start_fleet, start_server

SECONDS = 20.0
"""A bound for what takes milliseconds."""


class Exchange:
    """One request on a connection of its own; what has come so far of the answer."""

    def __init__(
        self, url: str, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> None:
        target = urlsplit(url)
        assert target.hostname is not None
        assert target.port is not None
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {"Host": target.netloc, "Connection": "close", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        given["Content-Length"] = str(len(data))
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        method = method or ("GET" if body is None else "POST")
        self._socket = socket.create_connection((target.hostname, target.port), SECONDS)
        self._received = b""
        try:
            self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def received(self) -> bytes:
        """Return what has come by now, without waiting."""
        while select.select([self._socket], [], [], 0)[0] and (piece := self._socket.recv(1 << 16)):
            self._received += piece
        return self._received

    def num_events(self) -> int:
        """Count the events of a stream that have come by now."""
        return self.received().count(b"data: ")

    def is_closed(self) -> bool:
        """Wait for more, and return whether the server has closed the connection instead."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def is_broken(self) -> bool:
        """Wait for the end, and return whether it came before the end of an answer."""
        try:
            return not self.finish().is_whole
        except ConnectionError:
            return True

    def finish(self) -> "Answer":
        """Wait for the end, and return the answer; raises ConnectionError where the connection broke."""
        with self._socket:
            while piece := self._socket.recv(1 << 16):
                self._received += piece
        return Answer(self._received)


class Answer:
    """A whole answer."""

    def __init__(self, data: bytes) -> None:
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator:
            raise ConnectionError("the answer broke off before its body")
        status_line, *lines = head.decode().split("\r\n")
        self.status = int(status_line.split()[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self.is_whole = True
        if self.headers.get("transfer-encoding") == "chunked":
            body, self.is_whole = _unchunked(body)
        self.body = body

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """What the model said, whole or streamed."""
        if not self.headers["content-type"].startswith("text/event-stream"):
            return str(self.json["choices"][0]["text"])
        events = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: {")]
        return "".join(json.loads(event)["choices"][0]["text"] for event in events)


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """Return the content of chunks, and whether the last one is there."""
    content = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return content, True
        content, data = content + data[:length], data[length + 2 :]
    return content, False


def manual_server(*flags: str, **options: Any) -> AbstractContextManager[ServerHandle]:
    """Start a server whose clock the test moves."""
    return start_server(*flags, clock="manual", **options)


def manual_fleet(count: int, *flags: str, **options: Any) -> AbstractContextManager[list[ServerHandle]]:
    """Start servers whose clock the test moves."""
    return start_fleet(count, *flags, clock="manual", **options)


def completion(server: ServerHandle, **fields: Any) -> Exchange:
    """Send a completion."""
    body: Mapping[str, Any] = {"model": server.model, "prompt": "Hello", "max_tokens": 4, "ignore_eos": True}
    return Exchange(server.url, "/v1/completions", {**body, **fields})


def complete(server: ServerHandle, **fields: Any) -> Answer:
    """Send a completion to a server on a manual clock, let time pass until nothing is in work, and return the answer."""
    num_before = sum(request.method == "POST" for request in server.requests)
    with completion(server, **fields) as exchange:
        server.wait_for_requests(num_before + 1)
        server.clock.run_until_idle()
        return exchange.finish()


def ask(url: str, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
    """Send a request and wait for its answer."""
    return Exchange(url, path, body, method, **headers).finish()
