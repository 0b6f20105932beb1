"""`--root-path`: routes are found with and without the prefix under which a proxy offers the server, as by Starlette."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from yarl import URL

ROOT_PATH: web.AppKey[str] = web.AppKey("root_path", str)
"""The prefix of an application; the key need not be there."""

_STRIPPED: web.RequestKey[str] = web.RequestKey("stripped_root_path", str)
"""Where a request keeps the prefix that its target had."""

RequestFactory = Callable[..., web.BaseRequest]
"""Makes a request of aiohttp's message, and what else aiohttp's server gives it."""


def below_root_path(root_path: str, make_request: RequestFactory) -> RequestFactory:
    """Return what makes requests without the prefix, where their target has it."""

    def make(message: Any, *others: Any) -> web.BaseRequest:
        if not message.path.startswith(f"{root_path}/"):
            return make_request(message, *others)
        target = message.path.removeprefix(root_path)
        request = make_request(message._replace(path=target, url=URL(target, encoded=True)), *others)
        request[_STRIPPED] = root_path
        return request

    return make


def stripped_root_path(request: web.BaseRequest) -> str:
    """Return the prefix that the target of a request had; empty for none."""
    prefix: str = request.get(_STRIPPED, "")
    return prefix
