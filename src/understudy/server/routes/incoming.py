"""A request for answers as it comes in: what it says outside of its body, and what every such request passes first."""

import secrets
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from understudy.server.context import ServerContext, context_of
from understudy.server.faults import RequestFaults
from understudy.server.frontend import EngineDiedError, QueueFullError
from understudy.server.routes.weights import WEIGHTS
from understudy.web import DEFAULT_LIMITS, read_json
from understudy.wire.errors import ApiError, internal, overloaded
from understudy.wire.limits import ModelLimits

_QUEUE_FULL = {
    "max_num_queued_reqs": "The engine is currently busy and cannot accept new requests. Please try again later or on"
    " a different instance.",
    "max_num_queued_tokens": "The engine has reached its prefill token backlog limit. Please try again later or on a"
    " different instance.",
}


class Named(Protocol):
    """A body that may give the answer its id."""

    request_id: str

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that the body gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One HTTP request, its body read. `limits` are what the server judges by now, `faults` what is to go wrong with it."""

    request: web.Request
    context: ServerContext
    limits: ModelLimits
    arrival_ns: int
    body: bytes
    faults: RequestFaults

    @property
    def content_type(self) -> str:
        """What the body is said to be."""
        return self.request.headers.get("Content-Type", "")

    @property
    def rank(self) -> int | None:
        """The data-parallel rank that a header asks for; one that is no number does not count."""
        return self._number("X-data-parallel-rank")

    def priority(self, given: int) -> int:
        """Return the urgency of the request: from a header, else from the body."""
        number = self._number("X-Vllm-Priority")
        return given if number is None else number

    def _number(self, header: str) -> int | None:
        try:
            return int(self.request.headers[header])
        except (KeyError, ValueError):
            return None

    def answer_id(self, prefix: str, wanted: Named, *, counts_empty: bool = True) -> str:
        """Return the id of the answer: from the header, from the body, or at random.

        An empty id in a body is one, unless `counts_empty` is off.
        """
        is_given = bool(wanted.request_id) or (counts_empty and "request_id" in wanted.model_fields_set)
        own = self.request.headers.get("X-Request-Id", wanted.request_id if is_given else None)
        return prefix + (secrets.token_hex(8) if own is None else own)

    def weight_version(self, *, is_wanted: bool) -> str | None:
        """Return the version of the weights, where the request asks for it."""
        return self.request.app[WEIGHTS].version if is_wanted else None

    def check_queue(self, num_samples: int) -> None:
        """Raise ApiError where the engine is dead, or a limit of the queue would be exceeded."""
        try:
            self.context.frontend.check_admission(num_samples)
        except EngineDiedError as error:
            raise internal(str(error)) from None
        except QueueFullError as error:
            raise queue_full(error) from None


async def incoming(request: web.Request) -> Incoming:
    """Return a request whose body has come; raises ApiError where a fault is to refuse it."""
    context = context_of(request)
    arrival_ns = context.frontend.clock.now_ns()
    body = await read_json(request, DEFAULT_LIMITS)
    faults = context.faults.for_request(body)
    if faults.error_status is not None:
        raise ApiError("injected fault", status=faults.error_status, kind="InjectedFault")
    return Incoming(
        request=request,
        context=context,
        limits=context.limits,
        arrival_ns=arrival_ns,
        body=body,
        faults=faults,
    )


def queue_full(error: QueueFullError) -> ApiError:
    """Return what vLLM says where the queue is full."""
    return overloaded(_QUEUE_FULL[error.limit])
