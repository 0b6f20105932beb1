"""The trace formats that we read, and which of them a file is in, told by its first line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from understudy.workload.azure import HEADER, AzureParser
from understudy.workload.mooncake import MooncakeParser
from understudy.workload.native import NativeParser
from understudy.workload.records import RecordError, raw_fields, shown
from understudy.workload.request import WorkloadRequest


class Parser(Protocol):
    """Reads the lines of one file, in their order."""

    def parse(self, line: bytes, /) -> WorkloadRequest:
        """Return the request of a line. Raises RecordError or UnicodeDecodeError."""
        ...


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A format: its name, how it looks, and what reads it."""

    name: str
    looks: str
    parser: Callable[[], Parser]
    has_header: bool = False


MOONCAKE = TraceFormat(
    "mooncake", "JSON lines with timestamp, input_length, output_length and hash_ids", MooncakeParser
)
AZURE = TraceFormat("azure", f"CSV with the header {HEADER.decode()}", AzureParser, has_header=True)
NATIVE = TraceFormat(
    "native", "JSON lines with id, arrival_seconds, prompt, and output_tokens or outputs", NativeParser
)


def recognise(first_line: bytes) -> TraceFormat:
    """Return the format that a file with this first line is in. Raises RecordError or UnicodeDecodeError."""
    if first_line.strip() == HEADER:
        return AZURE
    if first_line.lstrip().startswith(b"{"):
        fields = raw_fields(first_line)
        if "hash_ids" in fields or "input_length" in fields:
            return MOONCAKE
        if "prompt" in fields or "arrival_seconds" in fields:
            return NATIVE
    accepted = "; ".join(f"{known.name} ({known.looks})" for known in (MOONCAKE, AZURE, NATIVE))
    raise RecordError(f"no known trace format: {shown(first_line.decode())!r}. Accepted are {accepted}")
