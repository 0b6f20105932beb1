"""The admin port: faults by an operator's word, crashes, a clock to move, the state. A listener of its own, on loopback only.

GET, PUT and DELETE /faults; POST /crash; POST /clock; GET /state. Every answer is JSON, errors are `{"error": sentence}`.
Nobody needs a key, so whoever comes by way of a browser is turned away: by the Host header, which a rebound DNS name
gives away, and by the Origin header, which pages of other sites cannot help sending.
"""

import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from understudy.errors import UnderstudyError
from understudy.server.engine_clock import NS_PER_SECOND
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.faults import Crash, FaultPlan, parse_fault_plan
from understudy.server.worker import Worker
from understudy.web import BodyError, HttpLimits, RunningServer, read_json, start_server

HOST = "127.0.0.1"
SERVER_NAME = "understudy"
MAX_SECONDS = 1_000_000_000.0
"""What a clock is moved by at most, and how long a crash lasts at most."""

Advance = Callable[[float], Awaitable[None]]
"""Moves a clock by so many seconds and returns when all that became due has been done."""

_LIMITS = HttpLimits(body_bytes=1024 * 1024, connections=64)
_log = logging.getLogger(__name__)

BodyT = TypeVar("BodyT", bound=msgspec.Struct)


class _CrashOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    down_seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)] = 10.0


class _ClockOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    advance_seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextlib.asynccontextmanager
async def admin_listener(
    worker: Worker, running: RunningServer, timetable: FaultTimetable, *, advance: Advance | None = None
) -> AsyncIterator[RunningServer | None]:
    """Serve the admin port of a worker while the context is open; yields None where `--admin-port` was not given.

    `advance` moves the clock of a worker whose clock is moved by hand. Raises UsageError where the port cannot be had.
    """
    port = worker.settings.arguments.values["admin_port"]
    if port is None:
        yield None
        return
    listener = await start_admin(admin_application(worker, running, timetable, advance), port)
    try:
        yield listener
    finally:
        await listener.drain(0)


async def start_admin(app: web.Application, port: int) -> RunningServer:
    """Serve an admin application on loopback, on any free port for 0. Raises UsageError where the port cannot be had."""
    listener = await start_server(app, host=HOST, port=port, limits=_LIMITS, server_name=SERVER_NAME)
    _log.info("Admin port: http://%s:%s", HOST, listener.port)
    return listener


def admin_application(
    worker: Worker, running: RunningServer, timetable: FaultTimetable, advance: Advance | None
) -> web.Application:
    """Return the application behind the admin port."""
    operator = _Operator(worker, running, timetable, advance)
    app = web.Application(client_max_size=_LIMITS.body_bytes)
    app.middlewares.extend((_local_only, _errors_in_json))
    app.add_routes(
        [
            web.get("/faults", operator.faults, allow_head=False),
            web.put("/faults", operator.put_faults),
            web.delete("/faults", operator.delete_faults),
            web.post("/crash", operator.crash),
            web.post("/clock", operator.move_clock),
            web.get("/state", operator.state, allow_head=False),
        ]
    )
    return app


class _Operator:
    """The handlers."""

    def __init__(
        self, worker: Worker, running: RunningServer, timetable: FaultTimetable, advance: Advance | None
    ) -> None:
        self._worker = worker
        self._running = running
        self._timetable = timetable
        self._advance = advance

    async def faults(self, _request: web.Request) -> web.Response:
        """Show the plan."""
        return _answer(msgspec.to_builtins(self._worker.faults.plan))

    async def put_faults(self, request: web.Request) -> web.Response:
        """Replace the plan, and show it."""
        await self._follow(parse_fault_plan(await read_json(request, _LIMITS), "the body"))
        return await self.faults(request)

    async def delete_faults(self, request: web.Request) -> web.Response:
        """Let nothing go wrong any more; the seed stays."""
        await self._follow(FaultPlan(seed=self._worker.faults.plan.seed))
        return await self.faults(request)

    async def crash(self, request: web.Request) -> web.Response:
        """Crash at once; serve again after some seconds."""
        order = await _body(request, _CrashOrder, _CrashOrder())
        hours = self._worker.faults.hours
        now_seconds = self._worker.clock.now_ns() / NS_PER_SECOND
        crash = Crash(at_seconds=now_seconds, for_seconds=order.down_seconds)
        faults = list(hours.plan.faults)
        while faults and isinstance(faults[-1], Crash) and hours.is_over(faults[-1]):
            faults.pop()
        await self._follow(msgspec.structs.replace(hours.plan, faults=(*faults, crash)))
        return _answer({"at_seconds": crash.at_seconds, "down_seconds": order.down_seconds})

    async def move_clock(self, request: web.Request) -> web.Response:
        """Move a clock that is moved by hand."""
        order = await _body(request, _ClockOrder, None)
        if self._advance is None:
            raise _RefusedError(
                HTTPStatus.CONFLICT,
                "this server's clock moves by itself; only a manual clock can be advanced",
            )
        await self._advance(order.advance_seconds)
        return _answer({"now_seconds": self._worker.clock.now_ns() / NS_PER_SECOND})

    async def state(self, _request: web.Request) -> web.Response:
        """Show how things are now."""
        frontend, clock = self._worker.frontend, self._worker.clock
        now_ns, next_ns = clock.now_ns(), frontend.loop.next_ns
        late_ns = 0 if next_ns is None or not clock.waits else max(0, now_ns - next_ns)
        gauges = frontend.gauges()
        return _answer(
            {
                "now_seconds": now_ns / NS_PER_SECOND,
                "lag_seconds": clock.wall_seconds(late_ns),
                "is_accepting": self._running.is_accepting,
                "connections": self._running.num_connections,
                "running": sum(engine.running for engine in gauges),
                "waiting": sum(engine.waiting for engine in gauges),
                "unfinished": frontend.num_unfinished,
                "engines": [
                    {"running": engine.running, "waiting": engine.waiting, "kv_cache_usage": engine.kv_usage}
                    for engine in gauges
                ],
            }
        )

    async def _follow(self, plan: FaultPlan) -> None:
        self._worker.faults.plan = plan
        await self._timetable.look()


async def _body(request: web.Request, shape: type[BodyT], default: BodyT | None) -> BodyT:
    """Return a JSON body; an empty one is the default, where there is one."""
    data = await read_json(request, _LIMITS)
    if not data and default is not None:
        return default
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST,
            f"{error}; accepted is a JSON object with {', '.join(shape.__struct_fields__)}",
        ) from error


@web.middleware
async def _local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only those in who name this machine, and no page of another site."""
    if not is_loopback(request.headers.get("Host", "")):
        return _error(
            HTTPStatus.FORBIDDEN, "the Host header must name this machine: localhost, 127.0.0.1 or [::1]"
        )
    origin = request.headers.get("Origin")
    if origin is not None and not is_loopback(urlsplit(origin).netloc):
        return _error(HTTPStatus.FORBIDDEN, "pages of other sites may not use the admin port")
    return await handler(request)


@web.middleware
async def _errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (_RefusedError, BodyError) as error:
        answer = _error(error.status, str(error))
        if isinstance(error, BodyError):
            answer.force_close()
        return answer
    except UnderstudyError as error:
        return _error(HTTPStatus.BAD_REQUEST, str(error))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        answer = _error(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} accepts {allowed}")
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        return _error(HTTPStatus.NOT_FOUND, "there are /faults, /crash, /clock and /state")


def is_loopback(authority: str) -> bool:
    """Return whether a host, perhaps with a port, is a name or an address of this machine."""
    host, bracket, _ = authority.removeprefix("[").partition("]")
    if not (authority.startswith("[") and bracket):
        host = authority.partition(":")[0]
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _answer(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def _error(status: HTTPStatus, message: str) -> web.Response:
    return _answer({"error": " ".join(message.split())}, status)
