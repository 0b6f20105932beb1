"""Routes of development mode: caches, sleep, pause, aborts, calls of workers, elastic scaling.

(vllm/entrypoints/serve/dev, vllm/entrypoints/rl/online and vllm/entrypoints/serve/elastic_ep, 0.33.0)
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

from aiohttp import web
from pydantic import BaseModel, Field

from understudy.errors import UsageError
from understudy.server.context import context_of
from understudy.server.power import POWER, NotReadyError, PauseMode
from understudy.server.routes.answers import get, json_answer, post
from understudy.server.routes.checks import BAD_REQUEST_PHRASE, read_loose_json, read_query
from understudy.wire.errors import ApiError, internal

_NOT_AN_OBJECT = "Request body must be a JSON object"


def is_served(environment: Mapping[str, str]) -> bool:
    """Return whether VLLM_SERVER_DEV_MODE says that these routes exist; raises UsageError for what is no number."""
    value = environment.get("VLLM_SERVER_DEV_MODE", "0")
    try:
        return bool(int(value))
    except ValueError:
        raise UsageError(f"VLLM_SERVER_DEV_MODE must be 0 or 1, got {value!r}") from None


def world_size(arguments: Mapping[str, Any]) -> int:
    """Return how many GPUs one data-parallel rank would have."""
    names = ("tensor_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size")
    return math.prod(arguments.get(name) or 1 for name in names)


class OperationListener(Protocol):
    """Who measures operations."""

    def started(self, operation: str) -> None:
        """Hear that an operation began."""

    def ended(self, operation: str, duration_seconds: float) -> None:
        """Hear that it is over, well or not."""


SLEEP_OPERATIONS: web.AppKey[OperationListener] = web.AppKey("sleep_operations", OperationListener)
"""Hears of "sleep", "wake" and "release_kv_cache_memory"; the key need not be there."""


def not_emulated(message: str) -> ApiError:
    """Return the 501 of an operation that has no meaning without a GPU."""
    return ApiError(message, status=501, kind="NotImplementedError")


@contextmanager
def measured(request: web.Request, key: web.AppKey[OperationListener], operation: str) -> Iterator[None]:
    """Tell the listener under `key`, if there is one, how long the block takes."""
    listener = request.app.get(key)
    if listener is None:
        yield
        return
    listener.started(operation)
    started_seconds = time.perf_counter()
    try:
        yield
    finally:
        listener.ended(operation, time.perf_counter() - started_seconds)


# -- caches ------------------------------------------------------------------------------------------------


class _ResetQuery(BaseModel):
    reset_running_requests: bool = False
    reset_external: bool = False


async def reset_prefix_cache(request: web.Request) -> web.Response:
    """Forget the prefix caches; there is no external one, whose reset always succeeds."""
    query = read_query(request, _ResetQuery)
    success = context_of(request).frontend.reset_prefix_cache(
        reset_running_requests=query.reset_running_requests
    )
    return json_answer({"success": success})


async def reset_media_cache(_request: web.Request) -> web.Response:
    """Forget a cache that a text model does not have."""
    return web.Response()


# -- sleep -------------------------------------------------------------------------------------------------


class _SleepQuery(BaseModel):
    level: Annotated[int, Field(ge=0, le=2)] = 1
    mode: PauseMode = "abort"


async def sleep(request: web.Request) -> web.Response:
    """Go to sleep; the answer comes when the engines are idle."""
    query = read_query(request, _SleepQuery)
    with measured(request, SLEEP_OPERATIONS, "sleep"):
        await request.app[POWER].sleep(query.level, query.mode)
    return json_answer({"status": "sleeping", "level": query.level})


async def wake_up(request: web.Request) -> web.Response:
    """Wake up what the tags name, all without any."""
    tags = request.query.getall("tags", []) or None
    with measured(request, SLEEP_OPERATIONS, "wake"):
        is_awake = request.app[POWER].wake_up(tags)
    return json_answer({"status": "awake" if is_awake else "sleeping", "tags": tags})


async def is_sleeping(request: web.Request) -> web.Response:
    """Say whether the server sleeps or pauses."""
    return json_answer({"is_sleeping": request.app[POWER].is_sleeping})


async def release_kv_cache_memory(request: web.Request) -> web.Response:
    """Give away the memory of the KV cache of a paused server."""
    with measured(request, SLEEP_OPERATIONS, "release_kv_cache_memory"):
        try:
            request.app[POWER].release_kv_cache_memory()
        except NotReadyError as error:
            raise internal(f"Call to release_kv_cache_memory method failed: {error}") from None
    return json_answer({"status": "kv_cache_released"})


# -- pause and aborts --------------------------------------------------------------------------------------


class _PauseQuery(BaseModel):
    mode: PauseMode = "abort"
    clear_cache: bool = True


async def pause(request: web.Request) -> web.Response:
    """Pause; the answer comes when the engines are idle."""
    query = read_query(request, _PauseQuery)
    await request.app[POWER].pause(query.mode, clear_cache=query.clear_cache)
    return json_answer({"status": "paused"})


async def resume(request: web.Request) -> web.Response:
    """End a pause."""
    request.app[POWER].resume()
    return json_answer({"status": "resumed"})


async def is_paused(request: web.Request) -> web.Response:
    """Say whether the server pauses."""
    return json_answer({"is_paused": request.app[POWER].is_paused})


async def abort_requests(request: web.Request) -> web.Response:
    """End the requests of some ids, or all; ids that are unknown count too, as in vLLM."""
    body = await read_loose_json(request, "Invalid JSON format")
    if not isinstance(body, dict):
        raise ApiError(_NOT_AN_OBJECT, kind=BAD_REQUEST_PHRASE)
    frontend = context_of(request).frontend
    wanted = body.get("request_ids")
    if not wanted:
        num_aborted = frontend.num_unfinished_requests
        frontend.abort_prompts(None)
        return json_answer({"status": "aborted", "aborted": num_aborted})
    try:
        frontend.abort_prompts([wanted] if isinstance(wanted, str) else list(wanted))
    except TypeError as error:
        return json_answer({"error": f"Failed to abort requests: {error}"}, 500)
    return json_answer({"status": "aborted", "aborted": len(wanted)})


# -- what needs workers ------------------------------------------------------------------------------------


async def collective_rpc(request: web.Request) -> web.Response:
    """Refuse to call a method of the workers, which this server does not have."""
    body = await read_loose_json(request, "JSON decode error: {error}")
    if not isinstance(body, dict):
        raise ApiError(_NOT_AN_OBJECT, kind=BAD_REQUEST_PHRASE)
    method = body.get("method")
    if method is None:
        raise ApiError("Missing 'method' in request body", kind=BAD_REQUEST_PHRASE)
    raise not_emulated(
        f"collective_rpc cannot call {method!r}: this server emulates the workers and has none"
    )


class _WorldSizeQuery(BaseModel):
    include_dp: bool = True


async def get_world_size(request: web.Request) -> web.Response:
    """Say how many GPUs the server would have, of all data-parallel ranks or of one."""
    query = read_query(request, _WorldSizeQuery)
    arguments = context_of(request).arguments
    num_ranks = (arguments.get("data_parallel_size") or 1) if query.include_dp else 1
    return json_answer({"world_size": world_size(arguments) * num_ranks})


ROUTES: tuple[web.RouteDef, ...] = (
    post("/reset_prefix_cache", reset_prefix_cache),
    post("/reset_mm_cache", reset_media_cache),
    post("/reset_encoder_cache", reset_media_cache),
    post("/sleep", sleep),
    post("/wake_up", wake_up),
    get("/is_sleeping", is_sleeping),
    post("/release_kv_cache_memory", release_kv_cache_memory),
    post("/pause", pause),
    post("/resume", resume),
    get("/is_paused", is_paused),
    post("/abort_requests", abort_requests),
    post("/collective_rpc", collective_rpc),
    get("/get_world_size", get_world_size),
)
