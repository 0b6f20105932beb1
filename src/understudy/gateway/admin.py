"""The admin API, on a port of its own on the loopback interface: workers come and go, the policy changes, decisions are explained."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from understudy.errors import UnderstudyError, UsageError
from understudy.gateway.router import Router
from understudy.server.http import DEFAULT_LIMITS, read_json

T = TypeVar("T")


class _WorkerOrder(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class _PolicyOrder(msgspec.Struct, forbid_unknown_fields=True):
    policy: str


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    body: msgspec.Raw
    path: str = "/v1/completions"


def admin_application(router: Router) -> web.Application:
    """Return the application; every order is answered with what holds afterwards."""
    app = web.Application(middlewares=[_answer_errors])

    async def workers(_request: web.Request) -> web.Response:
        return _json({"workers": router.worker_documents()})

    async def add(request: web.Request) -> web.Response:
        router.add_worker((await _read(request, _WorkerOrder)).url)
        return await workers(request)

    async def drain(request: web.Request) -> web.Response:
        router.fleet.drain(router.fleet[(await _read(request, _WorkerOrder)).url])
        return await workers(request)

    async def remove(request: web.Request) -> web.Response:
        router.fleet.remove(router.fleet[(await _read(request, _WorkerOrder)).url])
        return await workers(request)

    async def policy(_request: web.Request) -> web.Response:
        return _json({"policy": router.fleet.policy.name})

    async def change_policy(request: web.Request) -> web.Response:
        router.use_policy((await _read(request, _PolicyOrder)).policy)
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


async def _read(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await read_json(request, DEFAULT_LIMITS), type=kind)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the body cannot be used: {error}") from error


def _json(document: Mapping[str, Any], status: int = HTTPStatus.OK) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(document), indent=2)
    return web.Response(status=status, body=body + b"\n", content_type="application/json")


@web.middleware
async def _answer_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except UnderstudyError as error:
        return _json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
    return answer
