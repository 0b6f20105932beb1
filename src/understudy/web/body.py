"""Reads bodies within limits, and tells whether JSON is too deep before anything parses it."""

import asyncio
import json
import re
from http import HTTPStatus
from itertools import accumulate

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from understudy.web.limits import HttpLimits

_ALL_BYTES = bytes(range(256))
_STRUCTURE = b'"[]{}'
_UNSTRUCTURED = bytes(byte for byte in _ALL_BYTES if byte not in _STRUCTURE)
_BRACES_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_STRING = re.compile(rb'"[^"]*+(?:"|\Z)')
_OPENS = ord("[")


BODY: web.RequestKey[bytes] = web.RequestKey("understudy_body", bytes)
"""Put into a request by who reads its body before the application does, which then finds it there."""


class BodyError(Exception):
    """A body that is refused: `status` says why, the message is a sentence for the client.

    The rest of the body is not read, so the answer must end the connection: `answers.error_answer(status, close=True)`.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_body(request: web.BaseRequest, limits: HttpLimits) -> bytes:
    """Return the body; raises BodyError where it is too long (413), too slow (408) or breaks off (400)."""
    length = request.content_length
    if length is not None and length > limits.body_bytes:
        raise _too_long(limits)
    if BODY in request:
        return request[BODY]
    longest = limits.body_bytes if length is None else length
    seconds = max(limits.body_seconds, longest / limits.min_body_bytes_per_second)
    try:
        async with asyncio.timeout(seconds):
            return await _read_within(request, limits)
    except TimeoutError:
        raise BodyError(
            HTTPStatus.REQUEST_TIMEOUT, f"The request body did not come within {seconds:g} seconds."
        ) from None
    except RequestPayloadError:
        raise BodyError(HTTPStatus.BAD_REQUEST, "The request body is malformed.") from None


async def read_json(request: web.BaseRequest, limits: HttpLimits) -> bytes:
    """Return the body, unparsed; raises BodyError as `read_body`, and where JSON in it is nested too deep (400).

    Whether it is JSON at all is not looked at.
    """
    body = await read_body(request, limits)
    if not is_shallow(body, limits):
        raise BodyError(
            HTTPStatus.BAD_REQUEST,
            f"The request body has more than {limits.json_depth} levels of nesting,"
            f" or more than {limits.json_containers} arrays and objects.",
        )
    return body


def is_shallow(body: bytes, limits: HttpLimits) -> bool:
    """Return whether no JSON parser that reads `body` gets deeper than the limit, or makes more arrays and objects.

    Linear in its length. What is no JSON may be called either.
    """
    brackets = _brackets(body)
    num_opened = brackets.count(b"[")
    if num_opened > limits.json_containers:
        return False
    if num_opened <= limits.json_depth:
        return True
    return max(accumulate(1 if byte == _OPENS else -1 for byte in brackets)) <= limits.json_depth


def _brackets(body: bytes) -> bytes:
    """Return the brackets and braces outside of strings, all as brackets."""
    if b"\0" in body:
        body = body.decode(json.detect_encoding(body), "replace").encode("utf-8", "replace")
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    structure = unescaped.translate(_BRACES_AS_BRACKETS, _UNSTRUCTURED)
    # Two quotes in a row change nothing for what is around them, and short strings are what there is most of.
    return _STRING.sub(b"", structure.replace(b'""', b""))


async def _read_within(request: web.BaseRequest, limits: HttpLimits) -> bytes:
    pieces: list[bytes] = []
    num_bytes = 0
    while piece := await request.content.readany():
        num_bytes += len(piece)
        if num_bytes > limits.body_bytes:
            raise _too_long(limits)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_long(limits: HttpLimits) -> BodyError:
    return BodyError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request body is longer than {limits.body_bytes} bytes."
    )
