"""API keys, decided on the target as it came over the wire: before any decoding, so nothing can be decoded past them."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Literal
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

AuthCompat = Literal["strict", "vllm"]
"""What needs a key: all but OPEN_PATHS, or only what vLLM guards."""

OPEN_PATHS = frozenset({"/health", "/ping", "/version", "/metrics", "/metrics/", "/load"})
"""What probes and scrapers read, exactly so spelled."""

VLLM_GUARDED_PREFIXES = ("/v1", "/v2", "/inference", "/cohere")
"""GUARDED_PREFIX of vLLM's AuthenticationMiddleware, 0.33.0."""


class ApiKeys:
    """The keys of a server; only their hashes are kept."""

    def __init__(self, keys: Sequence[str], compat: AuthCompat = "strict") -> None:
        self._digests = [_digest(key.encode()) for key in keys]
        self._needs_key = _guarded_by_vllm if compat == "vllm" else _guarded

    def allow(self, method: str, raw_target: str, authorization: str | None) -> bool:
        """Return whether a request may go on; `raw_target` is the request line's, `authorization` the header's value."""
        return (
            not self._digests
            or method == "OPTIONS"
            or not self._needs_key(raw_target)
            or self._is_known(authorization or "")
        )

    def _is_known(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        digest = _digest(key.encode("utf-8", "surrogateescape"))
        # Every key is compared, so the time tells nothing of which one it was.
        matches = [secrets.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def auth_middleware(keys: ApiKeys) -> Middleware:
    """Return the middleware that answers 401 where a key is missing; it belongs before all others."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if keys.allow(request.method, request.raw_path, request.headers.get("Authorization")):
            return await handler(request)
        return web.Response(status=401, body=b'{"error":"Unauthorized"}', content_type="application/json")

    return authenticate


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _guarded(raw_target: str) -> bool:
    return raw_target.partition("?")[0] not in OPEN_PATHS


def _guarded_by_vllm(raw_target: str) -> bool:
    path = raw_target.partition("?")[0]
    return unquote(path).startswith(VLLM_GUARDED_PREFIXES)
