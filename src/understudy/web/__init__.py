"""A hardened HTTP server around an aiohttp application: limits, API keys, CORS, and answers in Starlette's shapes."""

from understudy.web.address import bound_socket, cannot_listen
from understudy.web.answers import error_answer
from understudy.web.auth import ApiKeys, auth_middleware
from understudy.web.body import BODY, BodyError, read_body, read_json
from understudy.web.cors import CorsPolicy, install_cors
from understudy.web.limits import DEFAULT_LIMITS, HttpLimits
from understudy.web.server import RunningServer, start_server

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
