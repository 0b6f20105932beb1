"""A router in this process, in front of servers in this process, on real sockets; and a client of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from tests.server.serving import MODEL, Reply, Served, reply_of, serving

from understudy.cli.route import policy_named
from understudy.gateway.router import Router, Sources
from understudy.gateway.serve import routing
from understudy.gateway.settings import RouteSettings
from understudy.web import RunningServer

FLAGS = ("--enable-prompt-tokens-details",)


def events_flag(folder: str, number: int) -> tuple[str, str]:
    """Return the flag of a worker whose KV events can be followed by who is on this machine."""
    config = {
        "enable_kv_cache_events": True,
        "endpoint": f"ipc://{folder}/{number}",
        "replay_endpoint": f"ipc://{folder}/{number}-replay",
    }
    return "--kv-events-config", json.dumps(config)


@dataclass
class Routed:
    """A router, its workers, and a client."""

    router: Router
    running: RunningServer
    workers: Sequence[Served]
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.running.port}"

    async def post(
        self, path: str, body: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request and read all of the answer."""
        given: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.session.post(self.url + path, headers=headers, **given) as response:
            return reply_of(response.status, dict(response.headers), await response.text())

    async def complete(self, headers: Mapping[str, str] | None = None, **body: Any) -> Reply:
        """Send a completion."""
        return await self.post("/v1/completions", {"model": MODEL} | body, headers)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Read a page."""
        async with self.session.get(self.url + path, headers=headers) as response:
            return Reply(response.status, dict(response.headers), await response.text())

    async def ready(self, num_workers: int | None = None) -> None:
        """Wait until so many workers, or all, may get requests."""
        wanted = len(self.workers) if num_workers is None else num_workers
        async with asyncio.timeout(30):
            await self.router.heard_of_all(30)
            while len(self.router.fleet.view(None)[0]) < wanted:  # noqa: ASYNC110 - no event is set by health alone
                await asyncio.sleep(0.01)

    def worker_of(self, reply: Reply) -> int:
        """Return which of the workers answered."""
        names = [worker.url for worker in self.workers]
        return names.index(dict(reply.headers)["X-Understudy-Worker"])


@asynccontextmanager
async def routed(
    num_workers: int, *flags: str, has_events: bool = True, **choices: Any
) -> AsyncIterator[Routed]:
    """Serve so many workers, and a router with these choices before them, ready for requests."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        workers = [
            await stack.enter_async_context(
                serving(*FLAGS, *(events_flag(folder, number) if has_events else ()), *flags)
            )
            for number in range(num_workers)
        ]
        async with route_to(workers, **choices) as served:
            await served.ready()
            yield served


@asynccontextmanager
async def route_to(workers: Sequence[Served], **choices: Any) -> AsyncIterator[Routed]:
    """Put a router before workers; it may not have heard of them yet."""
    chosen: dict[str, Any] = {"port": 0, "access_log": False, "worker": tuple(each.url for each in workers)}
    settings = RouteSettings(**chosen | choices)
    sources = Sources(policy=policy_named, settings=lambda: settings)
    async with (
        routing(settings, sources) as (router, running),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Routed(router, running, workers, session)
