"""Answers in the bytes of vLLM's server, and routes whose handlers may raise ApiError."""

import functools
from collections.abc import Awaitable, Callable

from aiohttp import web

from understudy.wire.errors import ApiError, compact_json

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_JSON = "application/json"


def json_answer(content: object, status: int = 200) -> web.Response:
    """Return a JSON document."""
    return web.Response(body=compact_json(content), status=status, content_type=_JSON)


def api_error_answer(error: ApiError) -> web.Response:
    """Return the answer that tells of an error."""
    return web.Response(body=error.body, status=error.status, content_type=_JSON)


def get(path: str, handler: Handler) -> web.RouteDef:
    """Return the route of a GET handler; as in vLLM it does not answer HEAD."""
    return web.get(path, _answering_errors(handler), allow_head=False)


def post(path: str, handler: Handler) -> web.RouteDef:
    """Return the route of a POST handler."""
    return web.post(path, _answering_errors(handler))


def _answering_errors(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return api_error_answer(error)

    return answer
