"""Reads a client's request: its body within limits, whose it is, and what a policy decides by."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import monotonic_ns, time_ns
from urllib.parse import unquote

import msgspec
from aiohttp import web

from understudy.engine import LoRA
from understudy.gateway.inbound import Inbound
from understudy.gateway.prompt import Prompt, PromptReader
from understudy.gateway.tracing import Tracing
from understudy.routing import RoutingRequest
from understudy.web import HttpLimits, read_body
from understudy.wire.errors import ApiError

SESSION_HEADER = "X-Session-ID"
_AUTHORIZATION = b"authorization"
_LONG_BODY_BYTES = 64 * 1024
"""Prompts of longer bodies are read in a thread, so that other streams go on; shorter ones take about a millisecond."""
MAX_PROMPT_BODY_BYTES = 4 * 1024 * 1024
"""Requests with longer bodies go by load: they hold more than any context does, and would take seconds to read."""

_KEY_ID_DIGITS = 12
_SALT_BYTES = 16
_SALT_PURPOSE = b"understudy route, cache_salt of a key:"


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class RequestReader:
    """Makes an `Inbound` of every request.

    Where `keeps_keys`, which may change at any time, workers never see the client's Authorization header; with a
    `worker_api_key` they get that one. With `salts_by_key`, a key's prompts share blocks only with one another;
    `salt_secret` goes into the salts. With `tracing`, workers get the request's own span as their parent.
    """

    def __init__(
        self,
        prompts: PromptReader,
        adapters: Callable[[], Mapping[str, LoRA]],
        limits: HttpLimits,
        *,
        keeps_keys: bool = False,
        worker_api_key: str | None = None,
        salts_by_key: bool = False,
        salt_secret: str | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.keeps_keys = keeps_keys
        self._prompts = prompts
        self._adapters = adapters
        self._limits = limits
        self._worker_authorization = None if worker_api_key is None else f"Bearer {worker_api_key}".encode()
        self._salts_by_key = salts_by_key
        self._salt_secret = (salt_secret or "").encode("utf-8", "surrogateescape")
        self._tracing = tracing
        self._numbers = count()

    async def read(self, request: web.Request) -> Inbound:
        """Return what a request is; raises BodyError, and ApiError where a salt cannot be put into it."""
        came_ns = time_ns()
        body = await read_body(request, self._limits)
        path = request.raw_path.partition("?")[0]
        started_ns = monotonic_ns()
        has_prompt = (
            request.method == "POST" and self._prompts.has_prompt(path) and len(body) <= MAX_PROMPT_BODY_BYTES
        )
        key = _key(request)
        if self._salts_by_key and key is not None and request.method == "POST" and body:
            body = self._salted(body, key, is_json=self._is_json(request, path))
        prompt = await self._prompt(path, body) if has_prompt else None
        headers = self._headers(request.raw_headers)
        if self._tracing is not None:
            headers = self._tracing.begin(f"{request.method} {path}", headers, came_ns)
        session = request.headers.get(SESSION_HEADER)
        return Inbound(
            method=request.method,
            target=request.raw_path,
            headers=headers,
            body=body,
            model=None if prompt is None else prompt.model,
            routing=self._routing(prompt, session),
            has_prompt=prompt is not None,
            wants_stream=prompt is not None and prompt.wants_stream,
            hashing_ns=monotonic_ns() - started_ns,
            key_id=None
            if key is None
            else hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_ID_DIGITS],
        )

    def inbound(self, path: str, body: bytes, prompt: Prompt) -> Inbound:
        """Return a request as if a client had sent it, to ask what would become of it."""
        return Inbound(
            method="POST",
            target=path,
            headers=(),
            body=body,
            model=prompt.model,
            routing=self._routing(prompt, None),
            has_prompt=True,
        )

    async def _prompt(self, path: str, body: bytes) -> Prompt | None:
        adapters = self._adapters()
        if len(body) <= _LONG_BODY_BYTES:
            return self._prompts.read(path, body, adapters)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._prompts.read, path, body, adapters)

    def _routing(self, prompt: Prompt | None, session: str | None) -> RoutingRequest:
        request_id, block_size = str(next(self._numbers)), self._prompts.block_size
        if prompt is None:
            return RoutingRequest(
                request_id=request_id,
                num_prompt_tokens=0,
                block_hashes=(),
                block_size=block_size,
                session_id=session,
            )
        return RoutingRequest(
            request_id=request_id,
            num_prompt_tokens=prompt.num_tokens,
            block_hashes=prompt.block_hashes,
            block_size=block_size,
            session_id=session or prompt.session_id,
            priority=prompt.priority,
        )

    def _headers(self, headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
        if not self.keeps_keys and self._worker_authorization is None:
            return headers
        kept = [(name, value) for name, value in headers if name.lower() != _AUTHORIZATION]
        if self._worker_authorization is not None:
            kept.append((b"Authorization", self._worker_authorization))
        return kept

    def _is_json(self, request: web.Request, path: str) -> bool:
        """Return whether a worker would take the body for JSON; it decodes the path before it looks for a route."""
        return "json" in request.headers.get("Content-Type", "").lower() or self._prompts.has_prompt(
            unquote(path)
        )

    def _salted(self, body: bytes, key: str, *, is_json: bool) -> bytes:
        """Return the body with the key's salt in place of the client's; what is of another kind goes on as it is.

        The values beside it stay the bytes that they were; nothing is built of them.
        """
        document = _object(body)
        if document is not None:
            digest = hmac.digest(
                _SALT_PURPOSE + self._salt_secret, key.encode("utf-8", "surrogateescape"), "sha256"
            )
            document["cache_salt"] = msgspec.Raw(b'"%b"' % digest[:_SALT_BYTES].hex().encode())
            return msgspec.json.encode(document)
        if is_json:
            raise ApiError(
                "The request body must be a JSON object, for the router puts a cache_salt into it."
            )
        return body


def _object(body: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _decode_object(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _key(request: web.Request) -> str | None:
    """Return the API key that a client sent."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" and key else None
