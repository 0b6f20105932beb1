"""What clients reach: a few routes of the router's own, and every other one of the workers'."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from secrets import token_hex
from time import monotonic_ns
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from understudy.errors import PolicyError
from understudy.gateway.broadcast import BROADCAST_PATHS, broadcast
from understudy.gateway.inbound import Inbound
from understudy.gateway.model_list import merged_models
from understudy.gateway.observer import CLIENT_LEFT_STATUS, Exchange
from understudy.gateway.router import Router
from understudy.web import BodyError, install_cors
from understudy.wire.errors import ApiError, internal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OPEN_METHODS = frozenset({"GET", "HEAD"})
"""What a path that is open to everybody is open for."""

_log = logging.getLogger(__name__)


def application(router: Router) -> web.Application:
    """Return the application that serves a router."""
    app = web.Application(client_max_size=router.limits.body_bytes)
    app.middlewares.append(_authentication(router))
    if router.cors is not None:
        install_cors(app, router.cors)
    app.middlewares.append(_answer_errors(router))

    async def health(_request: web.Request) -> web.Response:
        ready = router.fleet.is_ready
        return web.Response(status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=router.metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def models(request: web.Request) -> web.StreamResponse:
        if router.fleet.is_uniform:
            return await router.forwarder.handle(request)
        received_ns = monotonic_ns()
        inbound = await router.reader.read(request)
        with _Telling(router, request, received_ns, inbound) as told:
            return told.of(await merged_models(router.session, router.fleet, inbound))

    async def order(request: web.Request) -> web.StreamResponse:
        received_ns = monotonic_ns()
        inbound = await router.reader.read(request)
        with _Telling(router, request, received_ns, inbound) as told:
            return told.of(
                await broadcast(
                    router.session,
                    router.fleet,
                    inbound,
                    on_reset=router.cache_was_reset,
                    names_workers=router.settings.worker_headers,
                )
            )

    app.router.add_get("/health", health)
    app.router.add_get("/ping", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/metrics/", metrics)
    app.router.add_get("/v1/models", models, allow_head=False)
    for path in sorted(BROADCAST_PATHS):
        app.router.add_post(path, order)
    app.router.add_route("*", "/{path:.*}", router.forwarder.handle)
    return app


class _Telling:
    """Tells the observers of a request that the router answers itself."""

    def __init__(
        self, router: Router, request: web.Request, received_ns: int, inbound: Inbound | None = None
    ) -> None:
        self._router = router
        headers = () if inbound is None else inbound.headers
        traceparents = [value for name, value in headers if name.lower() == b"traceparent"]
        self._exchange = Exchange(
            method=request.method,
            path=request.raw_path.partition("?")[0],
            model=None,
            request_id=request.headers.get("X-Request-Id") or token_hex(16),
            traceparent=traceparents[-1].decode(errors="replace") if traceparents else None,
            key_id=None if inbound is None else inbound.key_id,
            has_prompt=False,
            prompt_tokens=0,
            request_bytes=0 if inbound is None else len(inbound.body),
            status=CLIENT_LEFT_STATUS,
            received_ns=received_ns,
        )

    def of(self, answer: web.Response) -> web.Response:
        """Note what the client is answered."""
        self._exchange.status = answer.status
        self._exchange.body_bytes = len(answer.body) if isinstance(answer.body, bytes) else 0
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, ApiError):
            return  # told where it becomes an answer
        if isinstance(error, Exception):
            self._exchange.status = HTTPStatus.INTERNAL_SERVER_ERROR
        self._exchange.ended_ns = monotonic_ns()
        self._router.answered(self._exchange)


def _authentication(router: Router) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return the middleware before all others, that answers 401 where a key is missing.

    Whatever is not open by its exact spelling needs one; so does a preflight that the router does not answer itself.
    """

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        method, target = request.method, request.raw_path
        is_preflight = router.cors is not None and router.cors.is_preflight(method, request.headers)
        if method not in _OPEN_METHODS and not is_preflight:
            method, target = "POST", "/"
        if router.keys.allow(method, target, request.headers.get("Authorization")):
            return await handler(request)
        with _Telling(router, request, monotonic_ns()) as told:
            body = b'{"error":"Unauthorized"}'
            return told.of(web.Response(status=401, body=body, content_type="application/json"))

    return authenticate


def _answer_errors(router: Router) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return the middleware that gives every refusal and failure of the router's own the shape that vLLM gives it."""

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        received_ns = monotonic_ns()
        try:
            return await handler(request)
        except (ApiError, BodyError) as error:
            refusal = error if isinstance(error, ApiError) else _as_api_error(error)
            answer = web.Response(status=refusal.status, body=refusal.body, content_type="application/json")
            if isinstance(error, BodyError):
                answer.force_close()
            with _Telling(router, request, received_ns) as told:
                return told.of(answer)
        except (web.HTTPException, ConnectionError):
            raise
        except PolicyError as error:
            _log.error("%s", error)
        except Exception:  # noqa: BLE001 - one bad request must not hurt another; the log has the rest
            _log.exception(
                "Internal error in %s %r", request.method, request.raw_path.partition("?")[0][:200]
            )
        failure = internal()
        return web.Response(status=failure.status, body=failure.body, content_type="application/json")

    return answer_errors


def _as_api_error(error: BodyError) -> ApiError:
    return ApiError(str(error), status=error.status, kind=error.status.phrase)
