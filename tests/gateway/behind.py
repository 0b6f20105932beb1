"""A router before workers that answer pages of JSON, and what passes between them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.gateway.fake_worker import Answer, Asked, FakeWorker, until, working
from tests.gateway.routed import Routed, route_to

Pages = Mapping[str, tuple[int, Any]]
"""Statuses and documents, by path."""


def answers(pages: Pages) -> Answer:
    """Return a worker's answers; every other path is a 200 with an empty object."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        status, document = pages.get(asked.target.partition("?")[0], (200, {}))
        body = json.dumps(document).encode()
        head = (
            f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + (b"" if asked.method == "HEAD" else body))

    return answer


def lists(*names: str) -> Pages:
    """Return the page of models of a worker that serves these."""
    data = [{"id": name, "object": "model"} for name in names]
    return {"/v1/models": (200, {"object": "list", "data": data})}


@asynccontextmanager
async def before(*pages: Pages, **choices: Any) -> AsyncIterator[tuple[Routed, Sequence[FakeWorker]]]:
    """Put a router before workers that answer these pages, and wait until it knows of them what it asks for."""
    async with working(*map(answers, pages)) as workers:
        chosen: dict[str, Any] = {
            "worker": tuple(worker.url for worker in workers),
            "knowledge": "own",
            "heartbeat_seconds": 0.02,
        }
        async with route_to([], **chosen | choices) as router:
            await router.ready(len(workers))
            if all("/v1/models" in each for each in pages):
                await until(lambda: all(member.models for member in router.router.fleet))
            yield router, workers


def posted(worker: FakeWorker) -> list[Asked]:
    """Return the POST requests that a worker got, but for the router's own questions."""
    return [
        asked for asked in worker.asked if asked.method == "POST" and not asked.target.endswith("tokenize")
    ]
