"""What clients reach: a few routes of the router's own, and every other one of the workers'."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from understudy.errors import PolicyError
from understudy.gateway.broadcast import BROADCAST_PATHS, broadcast
from understudy.gateway.model_list import merged_models
from understudy.gateway.router import Router
from understudy.server.http import ApiKeys, BodyError, auth_middleware, install_cors
from understudy.wire.errors import ApiError, internal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


def application(router: Router) -> web.Application:
    """Return the application that serves a router."""
    app = web.Application(client_max_size=router.limits.body_bytes)
    app.middlewares.append(auth_middleware(ApiKeys(router.settings.api_key)))
    if router.cors is not None:
        install_cors(app, router.cors)
    app.middlewares.append(_answer_errors)

    async def health(_request: web.Request) -> web.Response:
        ready = router.fleet.is_ready
        return web.Response(status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=router.metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def models(request: web.Request) -> web.StreamResponse:
        if router.fleet.is_uniform:
            return await router.forwarder.handle(request)
        return await merged_models(router.session, router.fleet, await router.reader.read(request))

    async def order(request: web.Request) -> web.StreamResponse:
        return await broadcast(router.session, router.fleet, await router.reader.read(request))

    app.router.add_get("/health", health)
    app.router.add_get("/ping", health)
    app.router.add_get("/metrics", metrics, allow_head=False)
    app.router.add_get("/v1/models", models, allow_head=False)
    for path in sorted(BROADCAST_PATHS):
        app.router.add_post(path, order)
    app.router.add_route("*", "/{path:.*}", router.forwarder.handle)
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every refusal and failure of the router's own the shape that vLLM gives it."""
    try:
        return await handler(request)
    except ApiError as error:
        return web.Response(status=error.status, body=error.body, content_type="application/json")
    except (web.HTTPException, BodyError, ConnectionError):
        raise
    except PolicyError as error:
        _log.error("%s", error)
    except Exception:  # noqa: BLE001 - one bad request must not hurt another; the log has the rest
        _log.exception("Internal error in %s %s", request.method, request.path)
    failure = internal()
    return web.Response(status=failure.status, body=failure.body, content_type="application/json")
