"""CORS as Starlette's CORSMiddleware does it for vLLM's --allowed-origins, -methods, -headers and --allow-credentials.

(starlette/middleware/cors.py, 1.10.0)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

_ALL_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY")
_SAFE_HEADERS = frozenset({"Accept", "Accept-Language", "Content-Language", "Content-Type"})
_MAX_AGE_SECONDS = 600
_PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"

_REACHED = web.RequestKey("understudy_reached_cors", bool)
"""Set on requests that reached CORS; those that were refused before get no headers of it."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """The answer to a preflight."""

    status: int
    text: str
    headers: Mapping[str, str]


class CorsPolicy:
    """Which origins may ask what; the defaults are vLLM's when no flag is given."""

    def __init__(
        self,
        allowed_origins: Sequence[str] = (),
        allowed_methods: Sequence[str] = ("*",),
        allowed_headers: Sequence[str] = ("*",),
        *,
        allow_credentials: bool = False,
    ) -> None:
        self._origins = frozenset(allowed_origins)
        self._any_origin = "*" in allowed_origins
        self._methods = _ALL_METHODS if "*" in allowed_methods else tuple(allowed_methods)
        self._any_header = "*" in allowed_headers
        self._headers = sorted(_SAFE_HEADERS | set(allowed_headers))
        self._credentials = allow_credentials

    def is_preflight(self, method: str, headers: Mapping[str, str]) -> bool:
        """Return whether a request only asks for leave."""
        return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers

    def preflight(self, headers: Mapping[str, str]) -> Preflight:
        """Answer the headers of a preflight."""
        origin, wanted = headers["Origin"], headers.get("Access-Control-Request-Headers")
        answer = {"Vary": _PREFLIGHT_VARY}
        if self._any_origin and not self._credentials:
            answer["Access-Control-Allow-Origin"] = "*"
        elif self._is_allowed(origin):
            answer["Access-Control-Allow-Origin"] = origin
        answer["Access-Control-Allow-Methods"] = ", ".join(self._methods)
        answer["Access-Control-Max-Age"] = str(_MAX_AGE_SECONDS)
        if not self._any_header:
            answer["Access-Control-Allow-Headers"] = ", ".join(self._headers)
        elif wanted is not None:
            answer["Access-Control-Allow-Headers"] = wanted
        if self._credentials:
            answer["Access-Control-Allow-Credentials"] = "true"
        failures = self._failures(headers)
        if failures:
            return Preflight(400, "Disallowed CORS " + ", ".join(failures), answer)
        return Preflight(200, "OK", answer)

    def answer_headers(self, origin: str | None, vary: Sequence[str] = ()) -> dict[str, str]:
        """Return what any other answer gets; `origin` is the request's, `vary` what the answer names itself."""
        headers: dict[str, str] = {}
        varies = {"Vary": ", ".join([*vary, "Origin"])}
        if origin is None:
            return varies
        if self._any_origin:
            headers["Access-Control-Allow-Origin"] = "*"
        if self._credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        if (self._any_origin and self._credentials) or (not self._any_origin and self._is_allowed(origin)):
            headers["Access-Control-Allow-Origin"] = origin
        return headers | varies

    def _failures(self, headers: Mapping[str, str]) -> list[str]:
        wanted = headers.get("Access-Control-Request-Headers", "")
        known = {name.lower() for name in self._headers}
        checks = {
            "origin": self._is_allowed(headers["Origin"]),
            "method": headers["Access-Control-Request-Method"] in self._methods,
            "headers": self._any_header
            or "Access-Control-Request-Headers" not in headers
            or all(name.strip() in known for name in wanted.lower().split(",")),
            "private-network": "Access-Control-Request-Private-Network" not in headers,
        }
        return [name for name, is_allowed in checks.items() if not is_allowed]

    def _is_allowed(self, origin: str) -> bool:
        return self._any_origin or origin in self._origins


def install_cors(app: web.Application, policy: CorsPolicy) -> None:
    """Append CORS to an application: behind the middlewares that it has, before those that come."""

    @web.middleware
    async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
        if policy.is_preflight(request.method, request.headers):
            preflight = policy.preflight(request.headers)
            return web.Response(status=preflight.status, text=preflight.text, headers=preflight.headers)
        request[_REACHED] = True
        return await handler(request)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        if _REACHED in request:
            origin = request.headers.get("Origin")
            response.headers.update(policy.answer_headers(origin, response.headers.getall("Vary", ())))

    app.middlewares.append(cors)
    app.on_response_prepare.append(add_headers)
