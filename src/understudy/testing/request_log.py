"""What arrived at a server, for assertions."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from understudy.web import BODY, DEFAULT_LIMITS, BodyError, read_body
from understudy.web.root_path import arrived_target

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_REQUESTS_KEPT = 10_000

_PROBES = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class ArrivedRequest:
    """One HTTP request, as it is when it is looked at. Names of headers are in lower case; the path is the whole target.

    `body` is JSON, None where there is none. `status` is None until an answer begins.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    status: int | None = None


_ARRIVED: web.RequestKey[ArrivedRequest] = web.RequestKey("understudy_arrived", ArrivedRequest)


class RequestLog:
    """The latest MAX_REQUESTS_KEPT requests, and how many came in all; GET, HEAD and OPTIONS do not count."""

    def __init__(self) -> None:
        self.num_arrived = 0
        self._kept: deque[ArrivedRequest] = deque(maxlen=MAX_REQUESTS_KEPT)
        self._grown = asyncio.Event()

    def requests(self) -> tuple[ArrivedRequest, ...]:
        """Return copies of what is kept, the oldest first."""
        return tuple(replace(request) for request in self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.num_arrived = 0

    async def until(self, count: int) -> None:
        """Wait until so many requests have come, with their bodies."""
        while self.num_arrived < count:
            self._grown.clear()
            await self._grown.wait()

    def install(self, app: web.Application) -> None:
        """Note all requests of an application, before any of its middlewares sees them."""

        @web.middleware
        async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._note(request, await _json_body(request))
            return await handler(request)

        async def answer_begins(request: web.Request, response: web.StreamResponse) -> None:
            if (arrived := request.get(_ARRIVED)) is not None:
                arrived.status = response.status

        app.middlewares.insert(0, noted)
        app.on_response_prepare.append(answer_begins)

    def _note(self, request: web.Request, body: Any) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        arrived = ArrivedRequest(request.method, arrived_target(request), headers, body)
        request[_ARRIVED] = arrived
        self._kept.append(arrived)
        if request.method not in _PROBES:
            self.num_arrived += 1
            self._grown.set()


async def _json_body(request: web.Request) -> Any:
    """Read a body without taking it from the handler, which also refuses what is refused here."""
    with contextlib.suppress(BodyError, ValueError, RecursionError):
        request[BODY] = await read_body(request, DEFAULT_LIMITS)
        return json.loads(request[BODY])
    return None
