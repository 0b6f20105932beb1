"""A client that says exactly the bytes it is told, and a server for it to talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from understudy.web import HttpLimits, RunningServer, read_json, start_server

SECONDS = 10.0
"""A bound for what takes milliseconds."""


@dataclass
class Answer:
    """An answer in parts; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_answer(data: bytes) -> Answer:
    """Take the first answer of what a server sent."""
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status_line.split()[1]), headers, body[: int(headers.get("content-length", len(body)))])


async def say(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), SECONDS)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def ask(
    port: int, target: str, method: str = "GET", headers: Sequence[str] = (), body: bytes = b""
) -> Answer:
    """Send one well-formed request; return its answer."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return parse_answer(await say(port, "\r\n".join([*lines, "", ""]).encode("latin-1") + body))


class Application:
    """Routes with which much can go wrong; `handled` has the path of every request that came through."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.handled: list[str] = []
        self.cancelled: list[str] = []
        self.release = asyncio.Event()
        self.app = web.Application()
        router = self.app.router
        router.add_get("/health", self.ok, allow_head=False)
        router.add_get("/v1/models", self.ok, allow_head=False)
        router.add_get("/twice", self.ok, allow_head=False)
        router.add_post("/twice", self.ok)
        router.add_get("/slash/", self.ok, allow_head=False)
        router.add_get("/slow", self.slow, allow_head=False)
        router.add_get("/broken", self.broken, allow_head=False)
        router.add_post("/echo", self.echo)

    async def ok(self, request: web.Request) -> web.Response:
        """Answer at once."""
        self.handled.append(request.path)
        return web.Response(text="ok")

    async def echo(self, request: web.Request) -> web.Response:
        """Send a body back."""
        body = await read_json(request, self.limits)
        self.handled.append(request.path)
        return web.Response(body=body)

    async def slow(self, request: web.Request) -> web.Response:
        """Answer once released."""
        self.handled.append(request.path)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.path)
            raise
        return web.Response(text="released")

    async def broken(self, request: web.Request) -> web.Response:
        """Fail."""
        raise RuntimeError(f"secret of {request.path}")


@asynccontextmanager
async def serving(
    limits: HttpLimits | None = None, application: Application | None = None, **options: Any
) -> AsyncIterator[tuple[RunningServer, Application]]:
    """Yield a server on a free port and its application; it is gone afterwards."""
    limits = limits or HttpLimits()
    application = application or Application(limits)
    server = await start_server(application.app, host="127.0.0.1", limits=limits, **options)
    try:
        yield server, application
    finally:
        await asyncio.wait_for(server.drain(0.05), SECONDS)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so."""
    async with asyncio.timeout(SECONDS):
        while not is_so():  # noqa: ASYNC110 - what is waited for belongs to a server that tells nobody
            await asyncio.sleep(0.001)


def port_of(server: RunningServer) -> int:
    """Return the port of a server that has one."""
    assert server.port is not None
    return server.port
