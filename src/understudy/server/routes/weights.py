"""Routes of development mode that replace weights. No weights are here; the version that a client gives them is kept.

(vllm/entrypoints/rl/online/api_router.py, 0.33.0)
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from understudy.server.routes.answers import get, json_answer, post
from understudy.server.routes.checks import BAD_REQUEST_PHRASE, read_fields
from understudy.server.routes.operator import OperationListener, measured, not_emulated
from understudy.wire.errors import ApiError


@dataclass(slots=True)
class Weights:
    """The version of the weights, as vLLM names them before anybody else does."""

    version: str = "default"


WEIGHTS: web.AppKey[Weights] = web.AppKey("weights", Weights)

WEIGHT_OPERATIONS: web.AppKey[OperationListener] = web.AppKey("weight_operations", OperationListener)
"""Hears of "init", "shutdown", "start", "start_draft", "update" and "finish"; the key need not be there."""


class _InitFields(BaseModel):
    init_info: dict[str, Any]


class _UpdateFields(BaseModel):
    update_info: dict[str, Any] | list[dict[str, Any]]


class _FinishFields(BaseModel):
    weight_version: str | None = None


class _VersionFields(BaseModel):
    new_version: str


class _CheckerFields(BaseModel):
    action: Literal["checksum", "reset", "compare"]
    baseline: dict[str, str] | None = None


def _operation(
    operation: str, message: str, fields: type[BaseModel] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of an operation that does nothing here but check its fields."""

    async def handle(request: web.Request) -> web.Response:
        if fields is not None:
            await read_fields(request, fields)
        with measured(request, WEIGHT_OPERATIONS, operation):
            return json_answer({"message": message})

    return handle


async def finish_weight_update(request: web.Request) -> web.Response:
    """End an update; the weights get the version that the request names."""
    fields = await read_fields(request, _FinishFields)
    with measured(request, WEIGHT_OPERATIONS, "finish"):
        if fields.weight_version is not None:
            request.app[WEIGHTS].version = fields.weight_version
    return json_answer({"message": "Weight update finished"})


async def update_weight_version(request: web.Request) -> web.Response:
    """Give the weights another version."""
    fields = await read_fields(request, _VersionFields)
    request.app[WEIGHTS].version = fields.new_version
    return json_answer({"success": True, "new_version": fields.new_version})


async def weight_info(request: web.Request) -> web.Response:
    """Say which version the weights have."""
    return json_answer({"weight_version": request.app[WEIGHTS].version})


async def weight_checker(request: web.Request) -> web.Response:
    """Reset the weights, which changes nothing; there are none to take checksums of."""
    fields = await read_fields(request, _CheckerFields)
    if fields.action == "reset":
        return json_answer({"status": "reset"})
    if fields.action == "compare" and fields.baseline is None:
        raise ApiError("action='compare' requires a 'baseline' object", kind=BAD_REQUEST_PHRASE)
    raise not_emulated("weight_checker has no checksums: this server emulates the model and has no weights")


ROUTES: tuple[web.RouteDef, ...] = (
    post("/init_weight_transfer_engine", _operation("init", "Weight transfer initialized", _InitFields)),
    post("/shutdown_weight_transfer_engine", _operation("shutdown", "Weight transfer shut down")),
    post("/start_weight_update", _operation("start", "Weight update started")),
    post("/start_draft_weight_update", _operation("start_draft", "Draft weight update started")),
    post("/update_weights", _operation("update", "Weights updated", _UpdateFields)),
    post("/finish_weight_update", finish_weight_update),
    post("/update_weight_version", update_weight_version),
    get("/weight_info", weight_info),
    post("/weight_checker", weight_checker),
)
"""They exist where `operator.is_served` says so."""
