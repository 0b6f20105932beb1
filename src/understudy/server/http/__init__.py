"""A hardened HTTP server around an aiohttp application: limits, API keys, CORS, and answers in Starlette's shapes."""

from understudy.server.http.address import bound_socket, cannot_listen
from understudy.server.http.answers import error_answer
from understudy.server.http.auth import ApiKeys, auth_middleware
from understudy.server.http.body import BODY, BodyError, read_body, read_json
from understudy.server.http.cors import CorsPolicy, install_cors
from understudy.server.http.limits import DEFAULT_LIMITS, HttpLimits
from understudy.server.http.server import RunningServer, start_server

__all__ = [
    "BODY",
    "DEFAULT_LIMITS",
    "ApiKeys",
    "BodyError",
    "CorsPolicy",
    "HttpLimits",
    "RunningServer",
    "auth_middleware",
    "bound_socket",
    "cannot_listen",
    "error_answer",
    "install_cors",
    "read_body",
    "read_json",
    "start_server",
]
