"""Orders that change a server, such as loading an adapter, go to every worker: to one of them they would mean little.

What clients get is the first refusal, or else the first answer.
"""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from understudy.gateway.headers import OF_REQUESTS
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.wire.errors import ApiError

BROADCAST_PATHS = frozenset(
    {
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/reset_prefix_cache",
        "/reset_mm_cache",
        "/reset_encoder_cache",
        "/sleep",
        "/wake_up",
        "/pause",
        "/resume",
        "/abort_requests",
        "/start_profile",
        "/stop_profile",
        "/collective_rpc",
        "/init_weight_transfer_engine",
        "/update_weights",
    }
)
"""Routes of vLLM 0.33 that order the server to do something."""

ANSWER_SECONDS = 300.0
"""How long workers may take: weights may have to be loaded."""


async def broadcast(
    session: aiohttp.ClientSession, members: Iterable[Member], inbound: Inbound
) -> web.Response:
    """Give a request to all members at once, and return the answer for the client."""
    answers = await asyncio.gather(*(_ask(session, member, inbound) for member in members))
    if not answers:
        raise ApiError(
            "No worker can take the request.",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            kind="Service Unavailable",
        )
    return next((answer for answer in answers if answer.status >= HTTPStatus.BAD_REQUEST), answers[0])


async def _ask(session: aiohttp.ClientSession, member: Member, inbound: Inbound) -> web.Response:
    headers = CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in inbound.headers
        if name.lower() not in OF_REQUESTS
    )
    try:
        async with session.request(
            inbound.method,
            member.name + inbound.target,
            data=inbound.body or None,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as answer:
            body = await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        message = f"The worker {member.name} did not answer: {type(error).__name__}."
        failed = ApiError(message, status=HTTPStatus.BAD_GATEWAY, kind="BadGatewayError")
        return web.Response(status=failed.status, body=failed.body, content_type="application/json")
    content_type = answer.headers.get("Content-Type")
    return web.Response(
        status=answer.status,
        body=body,
        headers={} if content_type is None else {"Content-Type": content_type},
    )
