"""Our own format, one JSON object a line: everything that a workload can say.

`id`, `arrival_seconds` (from the start), `prompt`, and `output_tokens` or `outputs` (the token ids of the
answer); optionally `session`, `priority` and `cache_salt`. A prompt is a list of token ids, a text, or an
object with `num_tokens`, `segment_ids` and `segment_tokens`.
"""

from collections.abc import Iterable
from typing import IO, Annotated

import msgspec

from understudy.engine import Prompt, SegmentPrompt, TokenPrompt
from understudy.tokenize import encode
from understudy.workload.fields import Name, Priority, SegmentIds, TokenCount, TokenIds
from understudy.workload.records import ArrivalOrder, RecordDecoder, RecordError, arrival_ns, segment_prompt
from understudy.workload.request import WorkloadRequest

_SECOND_DECIMALS = 9


class _Segments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    num_tokens: TokenCount
    segment_ids: SegmentIds
    segment_tokens: TokenCount


_PROMPT = (
    "a list of token ids, a text, or an object with num_tokens, segment_ids and segment_tokens, "
    "none of them empty"
)


class _NativeRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    id: Name
    arrival_seconds: msgspec.Raw
    prompt: Annotated[TokenIds | Name | _Segments, msgspec.Meta(description=_PROMPT)]
    output_tokens: TokenCount | None = None
    outputs: TokenIds | None = None
    session: Name | None = None
    priority: Priority = 0
    cache_salt: Name | None = None


class NativeParser:
    """Turns the lines of one workload, in their order, into requests."""

    def __init__(self) -> None:
        self._decoder = RecordDecoder(_NativeRecord)
        self._order = ArrivalOrder()
        self._segment_tokens: int | None = None

    def parse(self, line: bytes) -> WorkloadRequest:
        """Return the request of a line. Raises RecordError or UnicodeDecodeError."""
        record = self._decoder.decode(line)
        if record.cache_salt is not None and isinstance(record.prompt, _Segments):
            raise RecordError("cache_salt needs a prompt of token ids or text, not of segments")
        now_ns = arrival_ns("arrival_seconds", record.arrival_seconds, _SECOND_DECIMALS)
        self._order.check("arrival_seconds", now_ns, record.arrival_seconds)
        return WorkloadRequest(
            request_id=record.id,
            arrival_ns=now_ns,
            prompt=self._prompt(record.prompt),
            output_tokens=_output_tokens(record),
            output_ids=record.outputs,
            session_id=record.session,
            priority=record.priority,
            cache_salt=record.cache_salt,
        )

    def _prompt(self, prompt: tuple[int, ...] | str | _Segments) -> Prompt:
        if isinstance(prompt, tuple):
            return TokenPrompt(prompt)
        if isinstance(prompt, str):
            return TokenPrompt(tuple(encode(prompt)))
        if self._segment_tokens not in {None, prompt.segment_tokens}:
            raise RecordError(
                f"segment_tokens must be the same in a whole workload, got {prompt.segment_tokens} "
                f"after {self._segment_tokens}"
            )
        self._segment_tokens = prompt.segment_tokens
        return segment_prompt(
            "segment_ids",
            num_tokens=prompt.num_tokens,
            segment_ids=prompt.segment_ids,
            segment_tokens=prompt.segment_tokens,
        )


def _output_tokens(record: _NativeRecord) -> int:
    if record.outputs is None:
        if record.output_tokens is None:
            raise RecordError("missing field output_tokens or outputs")
        return record.output_tokens
    if record.output_tokens not in {None, len(record.outputs)}:
        raise RecordError(
            f"output_tokens must be the number of outputs, {len(record.outputs)}, got {record.output_tokens}"
        )
    return len(record.outputs)


def write_native(requests: Iterable[WorkloadRequest], file: IO[bytes]) -> None:
    """Write requests, one line each, so that reading them gives them back; sequences come back as tuples."""
    encoder = msgspec.json.Encoder()
    for request in requests:
        record = _NativeRecord(
            id=request.request_id,
            arrival_seconds=_seconds(request.arrival_ns),
            prompt=_written_prompt(request.prompt),
            output_tokens=request.output_tokens if request.output_ids is None else None,
            outputs=None if request.output_ids is None else tuple(request.output_ids),
            session=request.session_id,
            priority=request.priority,
            cache_salt=request.cache_salt,
        )
        file.write(encoder.encode(record) + b"\n")


def _seconds(time_ns: int) -> msgspec.Raw:
    seconds, fraction_ns = divmod(time_ns, 10**_SECOND_DECIMALS)
    decimals = f".{fraction_ns:0{_SECOND_DECIMALS}d}".rstrip("0").rstrip(".")
    return msgspec.Raw(f"{seconds}{decimals}".encode())


def _written_prompt(prompt: Prompt) -> tuple[int, ...] | _Segments:
    if isinstance(prompt, SegmentPrompt):
        return _Segments(prompt.num_tokens, tuple(prompt.segment_ids), prompt.segment_tokens)
    return tuple(prompt.token_ids)
