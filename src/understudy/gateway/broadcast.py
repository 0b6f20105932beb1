"""Orders that change a server, such as loading an adapter, go to every worker: to one of them they would mean little.

What clients get is the first refusal, or else the first answer.
"""

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from understudy.gateway.answer_body import bounded_body
from understudy.gateway.headers import OF_REQUESTS, passing
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.wire.errors import ApiError

_RESET = "/reset_prefix_cache"

BROADCAST_PATHS = frozenset(
    {
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        _RESET,
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
        "/shutdown_weight_transfer_engine",
        "/start_weight_update",
        "/start_draft_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "/update_weight_version",
        "/release_kv_cache_memory",
        "/scale_elastic_ep",
        "/fault_tolerance/apply",
    }
)
"""Routes of vLLM 0.33 that order the server to do something."""

ANSWER_SECONDS = 300.0
"""How long workers may take: weights may have to be loaded."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024

_NOT_PASSED = OF_REQUESTS | {b"accept-encoding"}
"""Answers come as they are: no more of their headers than the type of the body is passed on."""


class _Reset(msgspec.Struct):
    success: bool = False


_decode_reset = msgspec.json.Decoder(_Reset).decode


async def broadcast(
    session: aiohttp.ClientSession,
    members: Iterable[Member],
    inbound: Inbound,
    *,
    on_reset: Callable[[Member], None],
    names_workers: bool,
) -> web.Response:
    """Give a request to all members at once, and return the answer for the client; raises ApiError where there are none.

    `on_reset` is called for each that says that it has emptied its prefix cache. With `names_workers` the client is told which
    worker did not answer.
    """
    is_reset = inbound.target.partition("?")[0] == _RESET

    async def ask(member: Member) -> web.Response:
        answer = await _ask(session, member, inbound, member.name if names_workers else None)
        if is_reset and _was_reset(answer):
            # At once: what the worker caches from now on is told by events that may come before the other answers.
            on_reset(member)
        return answer

    answers = await asyncio.gather(*(ask(member) for member in members))
    if not answers:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        raise ApiError("No worker can take the request.", status=status, kind=status.phrase)
    refusals = [answer for answer in answers if answer.status >= HTTPStatus.BAD_REQUEST]
    if is_reset:
        refusals += [answer for answer in answers if not _was_reset(answer)]
    return (refusals or answers)[0]


async def _ask(
    session: aiohttp.ClientSession, member: Member, inbound: Inbound, told_name: str | None
) -> web.Response:
    try:
        async with session.request(
            inbound.method,
            URL(member.name + inbound.target, encoded=True),
            data=inbound.body or None,
            headers=_headers(inbound),
            skip_auto_headers=("Content-Type", "User-Agent"),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as answer:
            body = await bounded_body(answer, MAX_ANSWER_BYTES)
            content_type = answer.headers.get("Content-Type")
            if body is not None:
                headers = {} if content_type is None else {"Content-Type": content_type}
                return web.Response(status=answer.status, body=body, headers=headers)
            failure = "answered with too much"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        failure = f"did not answer: {type(error).__name__}"
    failed = ApiError(
        f"{'A worker' if told_name is None else f'The worker {told_name}'} {failure}.",
        status=HTTPStatus.BAD_GATEWAY,
        kind="BadGatewayError",
    )
    return web.Response(status=failed.status, body=failed.body, content_type="application/json")


def _was_reset(answer: web.Response) -> bool:
    if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
        return False
    try:
        return _decode_reset(answer.body).success
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _headers(inbound: Inbound) -> CIMultiDict[str]:
    """Return what passes to workers."""
    lines = passing(inbound.headers, _NOT_PASSED).lines.decode("latin-1")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines.split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        headers.add(name, value)
    return headers
