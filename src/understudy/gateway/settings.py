"""What a user can choose about the router: the flags of `understudy route`, and what a configuration file may say.

It knows what can be chosen, not what follows from it.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from understudy.engine.config import HashAlgorithm
from understudy.errors import UsageError

KnowledgeChoice = Literal["auto", "events", "heartbeat", "own"]
TenantSalt = Literal["off", "key"]

RELOADABLE = frozenset(
    {
        "worker",
        "workers_file",
        "policy",
        "api_key",
        "max_in_flight_per_worker",
        "queue_size",
        "queue_seconds",
        "retries",
        "retry_unanswered",
        "idle_seconds",
        "worker_headers",
        "access_log",
    }
)
"""What a changed configuration file changes in a running router; the rest needs a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """Every choice about one router; raises UsageError for numbers that cannot be. Times are in seconds."""

    worker: tuple[str, ...] = ()
    """Address of a vLLM server, as in http://10.0.0.7:8000; once for each."""
    workers_file: Path | None = None
    """File with one worker's address a line, read again when it changes: those added there join, those gone drain."""
    policy: str = "prefix"
    """How a worker is chosen: a policy of `understudy compare`, or FILE.py:FUNCTION of your own."""
    seed: int = 0
    """Seeds what the policy leaves to chance."""

    knowledge: KnowledgeChoice = "auto"
    """Where the router learns what workers hold: their KV events; a list of their blocks that it asks for (heartbeat);
    only what it sent where (own); or for each worker the first of these that it offers (auto)."""
    tokenizer: str | None = None
    """The workers' tokenizer: a folder or tokenizer.json. [default: the emulated workers' own, offline]"""
    chat_template: str | None = None
    """The workers' chat template, a file or the text itself. [default: the tokenizer's]"""
    block_size: int = 16
    """Tokens in a block of the workers' KV cache."""
    prefix_caching_hash_algo: HashAlgorithm = "sha256"
    """How the workers hash blocks."""
    hash_seed: str | None = None
    """PYTHONHASHSEED of the workers' processes. [default: they have none]"""
    max_blocks_per_worker: int = 1_000_000
    """How many blocks of one worker the router remembers."""
    own_record_seconds: float = 600.0
    """After how long the router's own record of what it sent is forgotten."""
    heartbeat_seconds: float = 1.0
    """Time between two looks at a worker: whether it is healthy, and its load."""
    synchronisation_seconds: float = 5.0
    """Time between two full lists of a worker's blocks, where there are no KV events."""

    host: str = "127.0.0.1"
    """Interface to listen on."""
    port: int = 8000
    """Port to listen on; 0 for any that is free."""
    admin_port: int | None = None
    """Port on 127.0.0.1 for the admin API; 0 for any that is free. [default: no admin API]"""
    api_key: tuple[str, ...] = ()
    """Key that clients must send; once for each. Without, everybody may come."""
    worker_api_key: str | None = None
    """Key that the workers want in place of the client's."""
    tenant_salt: TenantSalt = "off"
    """With `key`, prompts share cached blocks only with those of the same API key, whatever salt a client sends."""
    tenant_salt_secret: str | None = None
    """Goes into those salts, so that workers cannot tell a key by its salt; the same for all routers of a fleet. [default: the
    key alone makes the salt]"""
    insecure: bool = False
    """Listen on other than loopback interfaces without an API key."""
    ssl_certfile: Path | None = None
    """Certificate for TLS towards clients."""
    ssl_keyfile: Path | None = None
    """Its key."""
    worker_ca: Path | None = None
    """Certificates of who may sign for workers at https addresses. [default: the system's]"""
    allowed_origins: tuple[str, ...] = ()
    """Origin whose pages in a browser may call (CORS); once for each."""
    max_body_bytes: int = 32 * 1024 * 1024
    """Longest body of a request."""

    max_in_flight_per_worker: int = 1024
    """Requests that one worker may have at a time."""
    queue_size: int = 4096
    """Requests that may wait when every worker has its fill; more get 429."""
    queue_seconds: float = 30.0
    """How long they wait before they get 503."""
    retries: int = 3
    """How many other workers a request may try where nothing has reached the client."""
    retry_unanswered: bool = False
    """Try another worker also where one took the request and left without a byte of an answer; it may be computed twice."""
    connect_seconds: float = 1.0
    """How long to wait for a connection to a worker."""
    idle_seconds: float = 300.0
    """How long an answer that has begun may pause."""
    drain_seconds: float = 120.0
    """How long running answers may take after SIGTERM."""

    worker_headers: bool = True
    """Say in each answer's headers which worker gave it and why it was chosen."""
    access_log: bool = True
    """Write a line of JSON for each request to standard error."""
    otlp_endpoint: str | None = None
    """Where to send a span for each request, by OpenTelemetry's protocol over HTTP, as in http://127.0.0.1:4318; needs the
    extra `otel`."""

    def __post_init__(self) -> None:
        for name in ("block_size", "max_blocks_per_worker", "max_in_flight_per_worker", "max_body_bytes"):
            _check(name, getattr(self, name), at_least=1)
        for name in ("queue_size", "retries", "port"):
            _check(name, getattr(self, name), at_least=0)
        for name in (
            "own_record_seconds",
            "heartbeat_seconds",
            "synchronisation_seconds",
            "queue_seconds",
            "connect_seconds",
            "idle_seconds",
            "drain_seconds",
        ):
            if not 0 < getattr(self, name) <= 1e9:
                raise UsageError(f"{flag_of(name)} must be greater than 0 seconds, got {getattr(self, name)}")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise UsageError("--ssl-certfile and --ssl-keyfile go together")
        if self.admin_port is not None:
            _check("admin_port", self.admin_port, at_least=0)
        if any(
            not key
            for key in (*self.api_key, self.worker_api_key, self.tenant_salt_secret)
            if key is not None
        ):
            raise UsageError("--api-key, --worker-api-key and --tenant-salt-secret must not be empty")
        if self.tenant_salt == "key" and not self.api_key:
            raise UsageError("--tenant-salt key needs an --api-key")
        if self.tenant_salt_secret is not None and self.tenant_salt != "key":
            raise UsageError("--tenant-salt-secret needs --tenant-salt key")
        if self.otlp_endpoint is not None and not _is_http_url(self.otlp_endpoint):
            raise UsageError(
                f"--otlp-endpoint {self.otlp_endpoint!r}: expected a URL as in http://127.0.0.1:4318"
            )
        if not (self.insecure or self.api_key or _is_loopback(self.host)):
            raise UsageError(f"--host {self.host} is open to the network: give an --api-key, or --insecure")

    def reloaded(self, others: "RouteSettings") -> "RouteSettings":
        """Return these settings with what may change while the router runs taken from others."""
        changes: Mapping[str, Any] = {name: getattr(others, name) for name in RELOADABLE}
        return replace(self, **changes)

    def needing_restart(self, others: "RouteSettings") -> list[str]:
        """Return the flags in which others differ and that only a restart changes."""
        return [
            flag_of(field.name)
            for field in fields(self)
            if field.name not in RELOADABLE and getattr(self, field.name) != getattr(others, field.name)
        ]


def flag_of(name: str) -> str:
    """Return how the command line spells a setting."""
    return f"--{name.replace('_', '-')}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check(name: str, value: int, *, at_least: int) -> None:
    if value < at_least:
        raise UsageError(f"{flag_of(name)} must be at least {at_least}, got {value}")
