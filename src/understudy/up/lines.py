"""Lines of text out of bytes as they come."""

from collections.abc import Callable, Iterator
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_LINE_BYTES = 64 * 1024
"""A longer line comes in pieces."""


class Lines:
    """Cuts what comes into lines, without their ends; what is no UTF-8 is shown as escapes."""

    def __init__(self) -> None:
        self._begun = b""

    def of(self, data: bytes) -> Iterator[str]:
        """Return the lines that are complete now."""
        *complete, self._begun = (self._begun + data).split(b"\n")
        while len(self._begun) > MAX_LINE_BYTES:
            complete.append(self._begun[:MAX_LINE_BYTES])
            self._begun = self._begun[MAX_LINE_BYTES:]
        return map(_text, complete)

    def rest(self) -> Iterator[str]:
        """Return the last line if it had no end."""
        begun, self._begun = self._begun, b""
        return map(_text, [begun] if begun else [])


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")


def stream_of_lines(take: Callable[[str], None]) -> TextIO:
    """Return a stream whose writer has each line taken, whether it writes text or, to its `buffer`, bytes."""
    return TextIOWrapper(BufferedWriter(_Raw(take)), "utf-8", "backslashreplace", line_buffering=True)


class _Raw(RawIOBase):
    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._lines = Lines()

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        taken = bytes(data)
        for line in self._lines.of(taken):
            self._take(line)
        return len(taken)
