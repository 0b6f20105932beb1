"""Large JSON in pieces: the encoder lets no other thread run while it is at work, and that can be for seconds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from understudy.wire.errors import compact_json
from understudy.wire.made import Made

BodyEncoder: TypeAlias = Callable[[object], bytes]
"""Turns a whole answer into JSON: `compact_json` or, where that would take long, `json_in_pieces`."""

_PIECE_BYTES = 1 << 16
"""About what is encoded at once, in a millisecond or two."""

_MOST_FIELDS = 64
"""An object of more fields is a table of small values."""

_ROWS_AT_ONCE = 512


def json_in_pieces(value: object) -> bytes:
    """Return what `compact_json` returns; between the pieces other threads can run."""
    return b"".join(json_pieces(value))


def json_pieces(value: object) -> Iterator[bytes]:
    """Yield the same bytes, up to some 100 KB at once as long as the items of each list are about as large as each other."""
    match value:
        case dict():
            yield b"{"
            yield from _rows(value) if len(value) > _MOST_FIELDS else _fields(value)
            yield b"}"
        case list() | tuple() | Made():
            yield b"["
            yield from _runs(value)
            yield b"]"
        case _:
            yield compact_json(value)


def _fields(fields: Mapping[str, object]) -> Iterator[bytes]:
    separator = b""
    for name, value in fields.items():
        yield separator + compact_json(name) + b":"
        yield from json_pieces(value)
        separator = b","


def _rows(table: Mapping[str, object]) -> Iterator[bytes]:
    rows = iter(table.items())
    separator = b""
    while run := dict(islice(rows, _ROWS_AT_ONCE)):
        yield separator + compact_json(run)[1:-1]
        separator = b","


def _runs(values: Sequence[object]) -> Iterator[bytes]:
    """Yield the values without brackets, as many at once as make a piece; one that is larger comes in pieces itself."""
    start, count = 0, 1
    while start < len(values):
        run = values[start : start + count]
        size = 0
        for piece in json_pieces(run[0]) if count == 1 else [compact_json(run)[1:-1]]:
            size += len(piece)
            yield piece
        start += count
        if start < len(values):
            yield b","
        count = count * 2 if size < _PIECE_BYTES else max(1, count // 2)
