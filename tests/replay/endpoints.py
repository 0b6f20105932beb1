"""Endpoints that are no good: what they answer is a function's, and what arrived is kept."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

MODEL = "m"
DONE = b"data: [DONE]\n\n"

Answer = Callable[[web.Request, int], Awaitable[web.StreamResponse]]
"""Answers a completion; told how many came before it."""


class Fake:
    """A server whose completions are answered by `answer`."""

    def __init__(self, answer: Answer, *, max_model_len: int | None = None) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self._answer = answer
        self._model = {"id": MODEL, "max_model_len": max_model_len}

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """List one model."""
        return web.json_response({"object": "list", "data": [self._model]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Keep what has come and let it be answered."""
        count = len(self.bodies)
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        return await self._answer(request, count)


@asynccontextmanager
async def faking(answer: Answer, *, max_model_len: int | None = None) -> AsyncIterator[Fake]:
    """Serve on a port of this machine while the context is open."""
    fake = Fake(answer, max_model_len=max_model_len)
    application = web.Application(client_max_size=1 << 26)
    application.router.add_get("/v1/models", fake.models)
    application.router.add_post("/v1/completions", fake.complete)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [(host, port)] = runner.addresses
    fake.url = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def token(count: int, finish: str | None = None) -> bytes:
    """Return the event of a token, the count-th of its answer."""
    body = {"choices": [{"text": "a", "finish_reason": finish}], "usage": {"completion_tokens": count}}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def stream(
    request: web.Request, *pieces: bytes, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """Answer with these pieces of a stream."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


async def whole(request: web.Request, _count: int) -> web.StreamResponse:
    """Answer as asked."""
    wanted = (await request.json())["max_tokens"]
    tokens = [token(number, "length" if number == wanted else None) for number in range(1, wanted + 1)]
    return await stream(request, *tokens, DONE)
