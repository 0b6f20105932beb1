"""A client's request as the router handles it: what is forwarded, and what is known of it for the choice of a worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.routing import RoutingRequest


@dataclass(slots=True, kw_only=True)
class Inbound:
    """One request. `body` is emptied as soon as no worker can be asked again, so that a long answer does not hold it."""

    method: str
    target: str
    """Path and query as they came, undecoded; bytes beyond ASCII as surrogates."""
    headers: Sequence[tuple[bytes, bytes]]
    """As they came; what does not pass a proxy is left out when they are forwarded."""
    body: bytes
    model: str | None
    """The body's `model`."""
    routing: RoutingRequest
    """Of no tokens where there is no prompt."""
    has_prompt: bool
    wants_stream: bool = False
    """Whether the answer is to come token by token."""
    hashing_ns: int = 0
    """Time that went into tokens and hashes."""
    key_id: str | None = None
    """Names the API key of the client, without telling it."""
