"""The models of a fleet whose workers do not all serve the same ones."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.wire.errors import ApiError

ANSWER_SECONDS = 10.0
MAX_LIST_BYTES = 1024 * 1024


async def merged_models(
    session: aiohttp.ClientSession, members: Iterable[Member], inbound: Inbound
) -> web.Response:
    """Return each model that some member lists, as it is listed there first; raises ApiError where none answers."""
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in inbound.headers
        if name.lower() == b"authorization"
    }
    lists = await asyncio.gather(*(_listed(session, member, headers) for member in members))
    answers = [models for models in lists if models is not None]
    if not answers:
        raise ApiError(
            "No worker can take the request.",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            kind="Service Unavailable",
        )
    merged: dict[str, Any] = {}
    for models in answers:
        for model in models:
            merged.setdefault(str(model.get("id")), model)
    body = msgspec.json.encode({"object": "list", "data": list(merged.values())})
    return web.Response(body=body, content_type="application/json")


async def _listed(
    session: aiohttp.ClientSession, member: Member, headers: dict[str, str]
) -> list[dict[str, Any]] | None:
    try:
        async with session.get(
            f"{member.name}/v1/models",
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as answer:
            body = await answer.content.read(MAX_LIST_BYTES)
            return msgspec.json.decode(body, type=_Listing).data if answer.status == HTTPStatus.OK else None
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
        return None


class _Listing(msgspec.Struct):
    data: list[dict[str, Any]]
