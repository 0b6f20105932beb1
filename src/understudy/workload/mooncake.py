"""Reads Mooncake traces: JSON lines with `timestamp` (ms), `input_length`, `output_length` and `hash_ids`.

The lengths are in tokens. There is one hash id for every 512 tokens of the prompt, the last piece perhaps
shorter; equal ids mean that two prompts are equal up to the end of that piece. Fields besides these are
ignored. (https://github.com/kvcache-ai/Mooncake, FAST25-release/traces)
"""

import msgspec

from understudy.workload.fields import SegmentIds, TokenCount
from understudy.workload.records import ArrivalOrder, RecordDecoder, arrival_ns, segment_prompt
from understudy.workload.request import WorkloadRequest

SEGMENT_TOKENS = 512

_MILLISECOND_DECIMALS = 6


class _MooncakeRecord(msgspec.Struct, frozen=True, gc=False):
    timestamp: msgspec.Raw
    input_length: TokenCount
    output_length: TokenCount
    hash_ids: SegmentIds


class MooncakeParser:
    """Turns the lines of one trace, in their order, into requests; ids count from 0."""

    def __init__(self) -> None:
        self._decoder = RecordDecoder(_MooncakeRecord)
        self._order = ArrivalOrder()
        self._num_requests = 0

    def parse(self, line: bytes) -> WorkloadRequest:
        """Return the request of a line. Raises RecordError or UnicodeDecodeError."""
        record = self._decoder.decode(line)
        now_ns = arrival_ns("timestamp", record.timestamp, _MILLISECOND_DECIMALS)
        self._order.check("timestamp", now_ns, record.timestamp)
        prompt = segment_prompt(
            "hash_ids",
            num_tokens=record.input_length,
            segment_ids=record.hash_ids,
            segment_tokens=SEGMENT_TOKENS,
        )
        request_id = str(self._num_requests)
        self._num_requests += 1
        return WorkloadRequest(
            request_id=request_id, arrival_ns=now_ns, prompt=prompt, output_tokens=record.output_length
        )
