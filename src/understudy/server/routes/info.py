"""Routes that say how the server is: health, version, load, models, metrics, where KV events come from.

(vllm/entrypoints/serve/instrumentator, vllm/entrypoints/openai/models and vllm/entrypoints/serve/elastic_ep, 0.33.0)
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from understudy import VLLM_VERSION
from understudy.server.context import context_of
from understudy.server.metrics import PAGE_CONTENT_TYPE
from understudy.server.routes.answers import get, json_answer, post
from understudy.server.routes.checks import BAD_REQUEST_PHRASE, check_json_content, read_loose_json
from understudy.wire.errors import ApiError, internal
from understudy.wire.model_list import LoadedAdapter, models_body

_MOUNTED_PAGE_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the metrics page at every path and method but GET /metrics, where vLLM has mounted the library's own server."""

DocumentSource = Callable[[], Mapping[str, Any]]
"""Returns a JSON document as it is now."""

KV_EVENT_SOURCES: web.AppKey[DocumentSource] = web.AppKey("kv_event_sources")
"""Answers /kv_event_sources; the key need not be there."""

TOKENIZER_INFO: web.AppKey[DocumentSource] = web.AppKey("tokenizer_info")
"""Answers /tokenizer_info: the tokenizer's configuration, with its class and the chat template."""


class ServerLoad:
    """How many requests that use the model are in work; always 0 without `--enable-server-load-tracking`."""

    def __init__(self, *, is_enabled: bool) -> None:
        self._is_enabled = is_enabled
        self.num_requests = 0

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Count one more while the block runs."""
        if not self._is_enabled:
            yield
            return
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1


SERVER_LOAD: web.AppKey[ServerLoad] = web.AppKey("server_load", ServerLoad)


async def health(request: web.Request) -> web.Response:
    """Say with the status alone whether the engine lives."""
    return web.Response(status=503 if context_of(request).frontend.is_dead else 200)


async def version(_request: web.Request) -> web.Response:
    """Say which vLLM this is."""
    return json_answer({"version": VLLM_VERSION})


async def load(request: web.Request) -> web.Response:
    """Say how many requests are in work."""
    return json_answer({"server_load": request.app[SERVER_LOAD].num_requests})


async def kv_event_sources(request: web.Request) -> web.Response:
    """Say where each rank's KV events are."""
    source = request.app.get(KV_EVENT_SOURCES)
    return json_answer({} if source is None else source())


async def tokenizer_info(request: web.Request) -> web.Response:
    """Show the tokenizer's configuration."""
    return json_answer(request.app[TOKENIZER_INFO]())


async def metrics(request: web.Request) -> web.Response:
    """Return the page of metrics."""
    return _metrics_page(request, PAGE_CONTENT_TYPE)


async def mounted_metrics(request: web.Request) -> web.Response:
    """Return the page of metrics as the library's own server does."""
    return _metrics_page(request, _MOUNTED_PAGE_CONTENT_TYPE)


def _metrics_page(request: web.Request, content_type: str) -> web.Response:
    return web.Response(body=context_of(request).metrics_page(), headers={"Content-Type": content_type})


async def models(request: web.Request) -> web.Response:
    """List the names of the model and the adapters."""
    context = context_of(request)
    adapters = [
        LoadedAdapter(adapter.name, adapter.path, adapter.base_model)
        for adapter in context.models.adapters.values()
    ]
    ids = iter(lambda: secrets.token_hex(8), "")
    body = models_body(context.limits, context.models.root, adapters, int(time.time()), ids)
    return web.Response(body=body, content_type="application/json")


# -- elastic expert parallelism ----------------------------------------------------------------------------


async def is_scaling_elastic_ep(_request: web.Request) -> web.Response:
    """Say that nobody scales the server."""
    return json_answer(
        {
            "is_scaling_elastic_ep": False,
            "phase": "idle",
            "epoch": None,
            "error": None,
            "requested_data_parallel_size": None,
        }
    )


async def scale_elastic_ep(request: web.Request) -> web.Response:
    """Refuse to become another number of ranks, as vLLM does without elastic expert parallelism."""
    check_json_content(request)
    body = await read_loose_json(request, "Invalid JSON format")
    if not isinstance(body, dict):
        raise internal(f"'{type(body).__name__}' object has no attribute 'get'")
    size = body.get("new_data_parallel_size")
    if size is None:
        raise ApiError("new_data_parallel_size is required", kind=BAD_REQUEST_PHRASE)
    for name, value in (
        ("new_data_parallel_size", size),
        ("drain_timeout", body.get("drain_timeout", 120)),
    ):
        if not isinstance(value, int) or value <= 0:
            raise ApiError(f"{name} must be a positive integer", kind=BAD_REQUEST_PHRASE)
    if size != (context_of(request).arguments.get("data_parallel_size") or 1):
        raise ApiError("Scale failed", status=500, kind="Internal Server Error")
    return json_answer({"message": f"Scaled to {size} data parallel engines"})


ROUTES: tuple[web.RouteDef, ...] = (
    get("/health", health),
    get("/ping", health),
    post("/ping", health),
    get("/version", version),
    get("/load", load),
    get("/kv_event_sources", kv_event_sources),
    get("/metrics", metrics),
    web.route("*", "/metrics{tail:.*}", mounted_metrics),
    get("/v1/models", models),
    post("/is_scaling_elastic_ep", is_scaling_elastic_ep),
    post("/scale_elastic_ep", scale_elastic_ep),
)

TOKENIZER_INFO_ROUTES: tuple[web.RouteDef, ...] = (get("/tokenizer_info", tokenizer_info),)
"""They exist with `--enable-tokenizer-info-endpoint`."""
