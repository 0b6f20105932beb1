"""One request as it is sent: headers and body of a completion that asks for exactly as many tokens as the trace has."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from understudy.replay.endpoint import Served
from understudy.replay.prompt_tokens import PromptTokens
from understudy.workload import WorkloadRequest

_HEADER_SAFE = "-._~:/@+="
_MAX_REQUEST_ID_CHARACTERS = 256

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request ready to be sent. `output_tokens` is what it asks for, as much as the context has room for."""

    serial: int
    request: WorkloadRequest
    output_tokens: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_shortened(self) -> bool:
        """Whether it asks for less than the trace has."""
        return self.output_tokens < self.request.output_tokens


def order_of(request: WorkloadRequest, serial: int, tokens: PromptTokens, served: Served) -> Order:
    """Return the order for a request. Ids are percent-encoded where a header cannot carry them."""
    output_tokens = request.output_tokens
    context = served.max_model_len
    if context is not None and request.prompt.num_tokens < context:
        output_tokens = min(output_tokens, context - request.prompt.num_tokens)
    body: dict[str, object] = {
        "model": served.model,
        "prompt": tokens.token_ids(request.prompt),
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if context is not None:
        # Where the context is not known a server may cut max_tokens, and must not find more than that demanded.
        body["min_tokens"] = output_tokens
    if request.priority:
        body["priority"] = request.priority
    if request.cache_salt is not None:
        body["cache_salt"] = request.cache_salt
    headers = {"Content-Type": "application/json"}
    request_id = quote(request.request_id, safe=_HEADER_SAFE)
    if len(request_id) <= _MAX_REQUEST_ID_CHARACTERS:
        headers["X-Request-Id"] = request_id
    if request.session_id is not None:
        headers["X-Session-ID"] = quote(request.session_id, safe=_HEADER_SAFE)
    return Order(
        serial=serial,
        request=request,
        output_tokens=output_tokens,
        headers=headers,
        body=_encoder.encode(body),
    )
