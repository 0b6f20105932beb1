"""`--root-path`: routes are found with and without the prefix under which a proxy offers the server, as by Starlette."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from yarl import URL

ROOT_PATH: web.AppKey[str] = web.AppKey("root_path", str)
"""The prefix of an application; the key need not be there."""

_PREFIX: web.RequestKey[str] = web.RequestKey("root_path_prefix", str)
"""Where a request keeps the prefix that was taken off its target, decoded."""

_TARGET: web.RequestKey[str] = web.RequestKey("root_path_target", str)
"""Where such a request keeps its target as it came."""

_UNIT = re.compile("%[0-9A-Fa-f]{2}|.", re.DOTALL)
"""What stands for one byte of a target, or for one character."""

RequestFactory = Callable[..., web.BaseRequest]
"""Makes a request of aiohttp's message, and what else aiohttp's server gives it."""


def below_root_path(root_path: str, make_request: RequestFactory) -> RequestFactory:
    """Return what makes requests without the prefix, where their target has it, however it is encoded there."""

    def make(message: Any, *others: Any) -> web.BaseRequest:
        target = without_root_path(message.path, root_path)
        if target is None:
            return make_request(message, *others)
        request = make_request(message._replace(path=target, url=URL(target, encoded=True)), *others)
        request[_PREFIX], request[_TARGET] = root_path, message.path
        return request

    return make


def without_root_path(target: str, root_path: str) -> str | None:
    """Return a target without the prefix; None if it has not got it as whole segments."""
    path, mark, query = target.partition("?")
    prefix = root_path.encode()
    decoded, end = b"", 0
    for unit in _UNIT.finditer(path):
        if len(decoded) >= len(prefix) + 1:
            break
        decoded += (
            unquote_to_bytes(unit[0]) if unit[0][0] == "%" else unit[0].encode(errors="surrogateescape")
        )
        end = unit.end()
    if decoded == prefix:
        return f"/{mark}{query}"
    return f"/{path[end:]}{mark}{query}" if decoded == prefix + b"/" else None


def stripped_root_path(request: web.BaseRequest) -> str:
    """Return the prefix that was taken off the target of a request; empty for none."""
    prefix: str = request.get(_PREFIX, "")
    return prefix


def arrived_target(request: web.BaseRequest) -> str:
    """Return the target of a request as it came, path and query."""
    target: str = request.get(_TARGET, request.raw_path)
    return target
