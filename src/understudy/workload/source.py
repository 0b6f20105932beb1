"""Where the bytes of a trace come from: a file or a stream, plain or gzip, read line by line."""

import gzip
import hashlib
import os
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from functools import partial
from importlib.resources.abc import Traversable
from io import BufferedReader
from pathlib import Path
from typing import IO

from understudy.errors import TraceError

MAX_LINE_BYTES = 64 << 20
"""Room for a prompt of some nine million token ids."""

MAX_SPOOLED_BYTES = 4 << 30
"""Most that is taken from a stream into a temporary file."""

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHUNK_BYTES = 1 << 20


class Source:
    """Bytes that can be read again and again. `name` is what errors call it."""

    def __init__(self, name: str, file: Traversable) -> None:
        self.name = name
        self._file = file

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that are not blank, with their numbers from 1; gzip is told by its first bytes.

        Raises TraceError for what cannot be opened or unpacked, and for a line longer than MAX_LINE_BYTES.
        """
        number = 0
        try:
            with self._file.open("rb") as file:
                read_line = partial(_unpacked(file).readline, MAX_LINE_BYTES + 1)
                for number, line in enumerate(iter(read_line, b""), start=1):
                    if len(line) > MAX_LINE_BYTES:
                        raise TraceError(f"{self.name}: line {number}: longer than {MAX_LINE_BYTES:,} bytes")
                    if number == 1:
                        line = line.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901 - a mark is no content
                    if not line.isspace():
                        yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TraceError(f"{self.name}: corrupt gzip data after line {number}: {error}") from error
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def sha256(self) -> str:
        """Return the hash of the bytes as they are stored, packed if they are packed, in hexadecimal."""
        try:
            with self._file.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise _unreadable(self.name, error) from error


def file_source(path: Path) -> Source:
    """Return a file as a source; what is no regular file, such as a pipe, is copied first.

    Raises TraceError, and FileNotFoundError where there is nothing.
    """
    name = str(path)
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return Source(name, path)
        with path.open("rb") as stream:
            return spooled_source(name, stream)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


def standard_input() -> Source:
    """Return a copy of standard input as a source. Raises TraceError."""
    if sys.stdin is None or sys.stdin.closed:
        raise TraceError("standard input: it is closed")
    return spooled_source("standard input", sys.stdin.buffer)


def spooled_source(name: str, stream: IO[bytes]) -> Source:
    """Copy a stream into a temporary file, to be read repeatedly; it goes when the source goes."""
    try:
        descriptor, path = tempfile.mkstemp(prefix="understudy-")
        source = Source(name, Path(path))
        weakref.finalize(source, os.unlink, path)
        num_bytes = 0
        with os.fdopen(descriptor, "wb") as copy:
            while chunk := stream.read(_CHUNK_BYTES):
                num_bytes += len(chunk)
                if num_bytes > MAX_SPOOLED_BYTES:
                    raise TraceError(
                        f"{name}: a stream may have {MAX_SPOOLED_BYTES:,} bytes; save more to a file"
                    )
                copy.write(chunk)
    except OSError as error:
        raise _unreadable(name, error) from error
    return source


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    assert isinstance(file, BufferedReader), "sources open files in binary mode, buffered"
    if file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
        # GzipFile reads lines in Python; the buffer on top reads them in C.
        return BufferedReader(gzip.GzipFile(fileobj=file))
    return file


def _unreadable(name: str, error: OSError | ValueError) -> TraceError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return TraceError(f"{name}: cannot be read: {reason}")
