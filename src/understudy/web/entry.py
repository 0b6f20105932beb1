"""What every request passes on its way into an application, and what becomes of the errors that come back."""

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote

from aiohttp import HttpVersion10, HttpVersion11, web
from yarl import URL

from understudy.web.answers import error_answer, invalid_request
from understudy.web.body import BodyError
from understudy.web.limits import HttpLimits
from understudy.web.root_path import stripped_root_path

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
"""Host of RFC 9110, 7.2: a name or an address, perhaps a port."""

_VERSIONS = (HttpVersion10, HttpVersion11)
"""What aiohttp's parser knows besides, HTTP/0.9, has no headers and no answer's status."""

_HEADER_LINE_BYTES = 4
"""Colon, space and line end."""

_SAFE_IN_LOCATION = ":/%#?=@[]!$&'()*+,;"
"""What Starlette's RedirectResponse does not quote."""


class Entry:
    """Calls an application's handler, and answers for it where it does not: as Starlette would."""

    def __init__(
        self, handler: Handler, router: web.UrlDispatcher, limits: HttpLimits, server_name: str
    ) -> None:
        self._handler = handler
        self._router = router
        self._limits = limits
        self._server_name = server_name

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        assert isinstance(request, web.Request)
        if (refused := self._refusal(request)) is not None:
            refused.headers["Server"] = self._server_name
            return refused
        try:
            return await self._handler(request)
        except web.HTTPNotFound:
            return await self._redirect(request) or error_answer(HTTPStatus.NOT_FOUND)
        except web.HTTPMethodNotAllowed:
            answer = error_answer(HTTPStatus.METHOD_NOT_ALLOWED)
            answer.headers["Allow"] = await self._first_method(request)
            return answer
        except web.HTTPError as error:
            return error_answer(HTTPStatus(error.status))
        except BodyError as error:
            return error_answer(error.status, close=True)

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request that no application should see.

        An absolute target is to vLLM's server a path that does not exist, and so it is here.
        """
        lines = sum(len(name) + len(value) + _HEADER_LINE_BYTES for name, value in request.raw_headers)
        if lines + len(request.raw_path) > self._limits.header_bytes:
            return error_answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, close=True)
        if request.version not in _VERSIONS or not _HOST.fullmatch(request.headers.get("Host", "")):
            return invalid_request()
        return None if request.raw_path.startswith("/") else error_answer(HTTPStatus.NOT_FOUND)

    async def _redirect(self, request: web.Request) -> web.Response | None:
        """Return the way to the path with one slash more at its end, or none, if there is a route."""
        path = request.path
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        if not other:
            return None
        match = await self._router.resolve(request.clone(rel_url=URL.build(path=other)))
        if isinstance(match.http_exception, web.HTTPNotFound):
            return None
        query = request.raw_path.partition("?")[2]
        location = f"{request.scheme}://{request.host}{stripped_root_path(request)}{other}" + (
            f"?{query}" if query else ""
        )
        headers = {"Location": quote(location, safe=_SAFE_IN_LOCATION, errors="replace")}
        return web.Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)

    async def _first_method(self, request: web.Request) -> str:
        """Return the method of the first route of a path: Starlette names no other."""
        for resource in self._router.resources():
            _, allowed = await resource.resolve(request)
            if allowed:
                return next(iter(resource)).method
        return ""
