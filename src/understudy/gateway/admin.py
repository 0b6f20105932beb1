"""The admin API, on a port of its own on the loopback interface: workers come and go, the policy changes, decisions are explained.

Nobody needs a key there. So whoever comes by way of a browser is turned away: by the Host header, which a rebound DNS name gives
away, and by the Origin header, which pages of other sites cannot help sending. Nor does a policy's name run a file here.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from understudy.errors import UnderstudyError, UsageError
from understudy.gateway.member import Member
from understudy.gateway.router import Router
from understudy.gateway.upstream import WorkerAddress
from understudy.routing import known_policies
from understudy.web import BodyError, HttpLimits, read_json

ADMIN_HOST = "127.0.0.1"
ADMIN_LIMITS = HttpLimits(body_bytes=4 * 1024 * 1024, connections=64)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T", bound=msgspec.Struct)


class _WorkerOrder(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class _PolicyOrder(msgspec.Struct, forbid_unknown_fields=True):
    policy: str


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    body: msgspec.Raw
    path: str = "/v1/completions"


class _UnknownWorkerError(UsageError):
    pass


def admin_application(router: Router) -> web.Application:
    """Return the application; every order is answered with what holds afterwards."""
    app = web.Application(middlewares=[_local_only, _errors_in_json], client_max_size=ADMIN_LIMITS.body_bytes)
    given_policy = router.settings.policy

    async def workers(_request: web.Request) -> web.Response:
        return _json({"workers": router.worker_documents()})

    async def add(request: web.Request) -> web.Response:
        router.add_worker((await _read(request, _WorkerOrder)).url)
        return await workers(request)

    async def drain(request: web.Request) -> web.Response:
        router.fleet.drain(_member(router, await _read(request, _WorkerOrder)))
        return await workers(request)

    async def remove(request: web.Request) -> web.Response:
        router.fleet.remove(_member(router, await _read(request, _WorkerOrder)))
        return await workers(request)

    async def policy(_request: web.Request) -> web.Response:
        return _json({"policy": router.fleet.policy.name})

    async def change_policy(request: web.Request) -> web.Response:
        name = (await _read(request, _PolicyOrder)).policy
        if ":" in name and name != given_policy:
            raise UsageError(
                f"policy {name!r} runs a file, which only --policy may ask for; known here are {', '.join(known_policies())}"
            )
        router.use_policy(name)
        return await policy(request)

    async def explained(request: web.Request) -> web.Response:
        question = await _read(request, _Question)
        return _json(router.explained(question.path, bytes(question.body)))

    async def reload(_request: web.Request) -> web.Response:
        return _json({"needs_restart": router.reload()})

    app.add_routes(
        [
            web.get("/workers", workers),
            web.post("/workers", add),
            web.post("/workers/drain", drain),
            web.delete("/workers", remove),
            web.get("/policy", policy),
            web.put("/policy", change_policy),
            web.post("/explain", explained),
            web.post("/reload", reload),
        ]
    )
    return app


def _member(router: Router, order: _WorkerOrder) -> Member:
    url = WorkerAddress.parse(order.url).url
    try:
        return router.fleet[url]
    except UsageError as error:
        raise _UnknownWorkerError(str(error)) from None


async def _read(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await read_json(request, ADMIN_LIMITS), type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        accepted = ", ".join(kind.__struct_fields__)
        raise UsageError(
            f"the body cannot be used: {error}; accepted is a JSON object with {accepted}"
        ) from error


def _json(document: Mapping[str, Any], status: int = HTTPStatus.OK) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(document), indent=2)
    return web.Response(status=status, body=body + b"\n", content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _json({"error": " ".join(message.split())}, status)


@web.middleware
async def _local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only those in who name this machine, and no page of another site."""
    if not is_loopback(request.headers.get("Host", "")):
        return _error(
            HTTPStatus.FORBIDDEN, "the Host header must name this machine: localhost, 127.0.0.1 or [::1]"
        )
    origin = request.headers.get("Origin")
    if origin is not None and not _is_local_origin(origin):
        return _error(HTTPStatus.FORBIDDEN, "pages of other sites may not use the admin API")
    return await handler(request)


@web.middleware
async def _errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _UnknownWorkerError as error:
        return _error(HTTPStatus.NOT_FOUND, str(error))
    except UnderstudyError as error:
        return _error(HTTPStatus.BAD_REQUEST, str(error))
    except BodyError as error:
        answer = _error(error.status, str(error))
        answer.force_close()
        return answer
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        answer = _error(HTTPStatus.METHOD_NOT_ALLOWED, f"accepted here are {allowed}")
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPNotFound:
        return _error(
            HTTPStatus.NOT_FOUND, "there are /workers, /workers/drain, /policy, /explain and /reload"
        )


def is_loopback(authority: str) -> bool:
    """Return whether a host, perhaps with a port, is a name or an address of this machine."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local_origin(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).netloc)
    except ValueError:
        return False
