"""The route /openapi.json: vLLM's document, of the routes that are served."""

import functools
import gzip
import json
from collections.abc import Set as AbstractSet
from importlib.resources import files
from typing import Any

from aiohttp import web

from understudy.server.routes.answers import get, json_answer
from understudy.web.root_path import ROOT_PATH

UNDESCRIBED: web.AppKey[AbstractSet[object]] = web.AppKey("undescribed")
"""Paths that are served and not described: those that say that they are off. The key need not be there."""


async def openapi(request: web.Request) -> web.Response:
    """Describe the routes of this server."""
    served = {resource.canonical for resource in request.app.router.resources()}
    if UNDESCRIBED in request.app:
        served -= request.app[UNDESCRIBED]
    document = _document()
    paths = {path: item for path, item in document["paths"].items() if path in served}
    root_path = request.app.get(ROOT_PATH, "").rstrip("/")
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return json_answer({**document, "paths": paths, **servers})


@functools.cache
def _document() -> dict[str, Any]:
    data = (files("understudy.server.routes") / "data" / "vllm-0.33-openapi.json.gz").read_bytes()
    document: dict[str, Any] = json.loads(gzip.decompress(data))
    return document


ROUTES: tuple[web.RouteDef, ...] = (get("/openapi.json", openapi),)
"""They exist unless `--disable-fastapi-docs`."""
