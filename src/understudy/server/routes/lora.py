"""Routes that load and unload LoRA adapters while the server runs.

(vllm/entrypoints/serve/lora/api_router.py, 0.33.0)
"""

from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel

from understudy.server.context import context_of
from understudy.server.environment import is_set
from understudy.server.routes.adapters import load_adapter, unload_adapter
from understudy.server.routes.answers import post
from understudy.server.routes.checks import read_document


def is_served(environment: Mapping[str, str]) -> bool:
    """Return whether VLLM_ALLOW_RUNTIME_LORA_UPDATING says that these routes exist."""
    return is_set(environment, "VLLM_ALLOW_RUNTIME_LORA_UPDATING")


class _LoadBody(BaseModel):
    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class _UnloadBody(BaseModel):
    lora_name: str
    lora_int_id: int | None = None


async def load_lora_adapter(request: web.Request) -> web.Response:
    """Load an adapter under a name that requests may then ask for."""
    body = await read_document(request, _LoadBody)
    load_adapter(context_of(request), body.lora_name, body.lora_path, in_place=body.load_inplace)
    return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' added successfully.")


async def unload_lora_adapter(request: web.Request) -> web.Response:
    """Forget an adapter."""
    body = await read_document(request, _UnloadBody)
    unload_adapter(context_of(request), body.lora_name)
    return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


ROUTES: tuple[web.RouteDef, ...] = (
    post("/v1/load_lora_adapter", load_lora_adapter),
    post("/v1/unload_lora_adapter", unload_lora_adapter),
)
