"""Reads Azure's traces: CSV with the header `TIMESTAMP,ContextTokens,GeneratedTokens`; no contents.

Nothing is known of what prompts share, so they share nothing: each is one segment of its own.
(https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023 and 2024)
"""

import re
from datetime import UTC, datetime, timedelta

from understudy.engine import SegmentPrompt
from understudy.workload.fields import MAX_ARRIVAL_NS, MAX_TOKENS, TokenCount, description
from understudy.workload.records import ArrivalOrder, RecordError, shown
from understudy.workload.request import WorkloadRequest

HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens"

_COLUMNS = HEADER.decode().split(",")
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_SECOND = 1_000_000_000


class AzureParser:
    """Turns the rows of one trace, in their order, into requests; ids and times count from the first."""

    def __init__(self) -> None:
        self._order = ArrivalOrder()
        self._start_ns: int | None = None
        self._num_requests = 0

    def parse(self, line: bytes) -> WorkloadRequest:
        """Return the request of a row. Raises RecordError or UnicodeDecodeError."""
        cells = line.decode().strip().split(",")
        if len(cells) != len(_COLUMNS):
            raise RecordError(f"a row must have {len(_COLUMNS)} columns, got {len(cells)}")
        timestamp, context, generated = cells
        unix_ns = _unix_ns(timestamp)
        if self._start_ns is None:
            self._start_ns = unix_ns
        now_ns = unix_ns - self._start_ns
        self._order.check(_COLUMNS[0], now_ns, timestamp.encode())
        if now_ns > MAX_ARRIVAL_NS:
            raise RecordError(f"{_COLUMNS[0]} must be within 31 years of the first, got {timestamp}")
        index = self._num_requests
        self._num_requests += 1
        return WorkloadRequest(
            request_id=str(index),
            arrival_ns=now_ns,
            prompt=SegmentPrompt(_tokens(_COLUMNS[1], context), (index,), segment_tokens=MAX_TOKENS),
            output_tokens=_tokens(_COLUMNS[2], generated),
        )


def _unix_ns(timestamp: str) -> int:
    """Return a time as nanoseconds since 1970; without an offset it is taken for UTC."""
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None:
        raise RecordError(_timestamp_error(timestamp))
    seconds, fraction, offset = match.groups()
    try:
        since_epoch = datetime.fromisoformat(seconds + (offset or "Z")) - _EPOCH
    except (ValueError, OverflowError):
        raise RecordError(_timestamp_error(timestamp)) from None
    return since_epoch // timedelta(seconds=1) * _NS_PER_SECOND + int((fraction or "").ljust(9, "0"))


def _timestamp_error(timestamp: str) -> str:
    return f"{_COLUMNS[0]} must look like 2023-11-16 18:17:03.9799600, got {shown(timestamp)!r}"


def _tokens(column: str, text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(MAX_TOKENS)) + 1 else 0
    if not 1 <= count <= MAX_TOKENS:
        raise RecordError(f"{column} must be {description(TokenCount)}, got {shown(text)!r}")
    return count
