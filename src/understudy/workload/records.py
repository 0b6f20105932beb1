"""Decodes one line of JSON into a typed record, and says in words what is wrong with one that does not fit.

The typed decoder does all the checking of types and limits; only when it refuses a line is the line looked at
again, field by field, to find the culprit. Nothing here knows of files or line numbers.
"""

from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Generic, TypeVar

import msgspec

from understudy.engine import SegmentPrompt
from understudy.errors import unknown_name
from understudy.workload.fields import MAX_ARRIVAL_NS, description

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

_MAX_SHOWN = 60
_MAX_NUMBER_CHARACTERS = 64


class RecordError(ValueError):
    """What is wrong with one record; whoever reads the file adds where it stands."""


class RecordDecoder(Generic[RecordT]):
    """Decodes lines into records of one type."""

    def __init__(self, record_type: type[RecordT]) -> None:
        self._type = record_type
        self._decoder = msgspec.json.Decoder(record_type)

    def decode(self, line: bytes) -> RecordT:
        """Return the record of a line. Raises RecordError or UnicodeDecodeError."""
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RecordError(self._explanation(line) or str(error)) from None

    def _explanation(self, line: bytes) -> str | None:
        record = raw_fields(line)
        fields = {field.encode_name: field for field in msgspec.structs.fields(self._type)}
        if self._type.__struct_config__.forbid_unknown_fields:
            for name in record:
                if name not in fields:
                    return str(unknown_name("field", shown(name), fields))
        for name, field in fields.items():
            if name in record:
                if not _fits(record[name], field.type):
                    return (
                        f"{name} must be {description(field.type)}, got {_offender(record[name], field.type)}"
                    )
            elif field.required:
                return f"missing field {name}"
        return None  # a field that is given twice, and good only the last time


def raw_fields(line: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of a JSON object, undecoded. Raises RecordError or UnicodeDecodeError."""
    try:
        return msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise RecordError(f"a record must be a JSON object, got {shown(line.decode())}") from None
    except msgspec.DecodeError as error:
        line.decode()
        raise RecordError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise RecordError("not valid JSON: nested too deeply") from None


def _fits(value: bytes | msgspec.Raw, field_type: object) -> bool:
    try:
        msgspec.json.decode(value, type=field_type)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _offender(value: msgspec.Raw, field_type: object) -> str:
    """Return the value as written, or of a list the first element that does not fit."""
    text = bytes(value)
    if text.startswith(b"["):
        for index, element in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw])):
            if not _fits(b"[" + bytes(element) + b"]", field_type):
                return f"{shown(bytes(element).decode())} at index {index}"
    return shown(text.decode())


def shown(text: str) -> str:
    """Return a text short enough and clean enough for one line of an error."""
    text = text.strip()
    text = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
    return text if text.isprintable() else ascii(text)


def arrival_ns(field: str, number: msgspec.Raw, decimals: int) -> int:
    """Return a JSON number of units of 10^`decimals` nanoseconds in nanoseconds: exact, or the nearest.

    Raises RecordError for what is no number, negative, or later than MAX_ARRIVAL_NS.
    """
    text = bytes(number).decode()
    try:
        value = Decimal(text).scaleb(decimals) if len(text) <= _MAX_NUMBER_CHARACTERS else Decimal(-1)
    except DecimalException:
        value = Decimal(-1)
    if not 0 <= value <= MAX_ARRIVAL_NS:
        latest = MAX_ARRIVAL_NS // 10**decimals
        raise RecordError(f"{field} must be a number from 0 to {latest:,}, got {shown(text)}")
    return int(value.to_integral_value())


class ArrivalOrder:
    """Sees to it that the arrivals of one trace never run back."""

    def __init__(self) -> None:
        self._last_ns = 0
        self._last_written: bytes | msgspec.Raw = b"0"

    def check(self, field: str, now_ns: int, as_written: bytes | msgspec.Raw) -> None:
        """Raise RecordError if a request arrives before the one before it."""
        if now_ns < self._last_ns:
            now, last = bytes(as_written).decode(), bytes(self._last_written).decode()
            raise RecordError(f"{field} must not run back, got {shown(now)} after {shown(last)}")
        self._last_ns = now_ns
        self._last_written = as_written


def segment_prompt(
    field: str, *, num_tokens: int, segment_ids: Sequence[int], segment_tokens: int
) -> SegmentPrompt:
    """Return a prompt of segments. Raises RecordError for ids that do not cover it or come twice."""
    num_segments = -(-num_tokens // segment_tokens)
    if len(segment_ids) != num_segments:
        raise RecordError(
            f"{field} must hold {num_segments} ids, one for every {segment_tokens} of {num_tokens} tokens, "
            f"got {len(segment_ids)}"
        )
    if len(set(segment_ids)) < num_segments:
        raise RecordError(
            f"{field} must hold different ids: each one names the whole prompt up to its segment"
        )
    return SegmentPrompt(num_tokens, segment_ids, segment_tokens)
