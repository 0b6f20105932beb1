"""The models of a fleet whose workers do not all serve the same ones."""

import asyncio
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from understudy.gateway.answer_body import bounded_body
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.wire.errors import ApiError

ANSWER_SECONDS = 10.0
MAX_LIST_BYTES = 4 * 1024 * 1024


class _Answer(NamedTuple):
    status: int
    body: bytes


class _Listing(msgspec.Struct):
    data: list[dict[str, Any]]


async def merged_models(
    session: aiohttp.ClientSession, members: Iterable[Member], inbound: Inbound
) -> web.Response:
    """Return each model that some member lists, as it is listed there first; if none lists any, the first refusal.

    Raises ApiError where none answers.
    """
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in inbound.headers
        if name.lower() == b"authorization"
    }
    asked = await asyncio.gather(*(_ask(session, member, headers) for member in members))
    answers = [answer for answer in asked if answer is not None]
    merged: dict[str, Any] = {}
    num_lists = 0
    for answer in answers:
        if answer.status == HTTPStatus.OK and (models := _listed(answer.body)) is not None:
            num_lists += 1
            for model in models:
                merged.setdefault(str(model.get("id")), model)
    if num_lists:
        body = msgspec.json.encode({"object": "list", "data": list(merged.values())})
        return web.Response(body=body, content_type="application/json")
    for answer in answers:
        if answer.status != HTTPStatus.OK:
            return web.Response(status=answer.status, body=answer.body, content_type="application/json")
    status = HTTPStatus.SERVICE_UNAVAILABLE
    raise ApiError("No worker can take the request.", status=status, kind=status.phrase)


async def _ask(session: aiohttp.ClientSession, member: Member, headers: Mapping[str, str]) -> _Answer | None:
    try:
        async with session.get(
            URL(f"{member.name}/v1/models", encoded=True),
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as answer:
            body = await bounded_body(answer, MAX_LIST_BYTES)
            return None if body is None else _Answer(answer.status, body)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _listed(body: bytes) -> list[dict[str, Any]] | None:
    try:
        return msgspec.json.decode(body, type=_Listing).data
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
