"""What people see: lines with the name of whoever says them, and one line of progress that is drawn again below them.

A thread writes. Nobody waits for it: if the reader is too slow, lines are left out and counted.
"""

import os
import select
import threading
from collections import deque
from typing import NamedTuple

MAX_WAITING_BYTES = 4 * 1024 * 1024
_CLOSE_SECONDS = 2.0
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""The system's cyan, yellow, green, magenta, blue, and the bright ones."""
_ERASE = b"\r\x1b[K"


class _Piece(NamedTuple):
    descriptor: int
    data: bytes


class Terminal:
    """Writes to two file descriptors until it is closed. `is_interactive`: `error` is a terminal, so progress is drawn.

    `width` is that of the longest name.
    """

    def __init__(
        self, output: int, error: int, *, is_interactive: bool, has_colours: bool, width: int
    ) -> None:
        self._output = output
        self._error = error
        self._is_interactive = is_interactive
        self._has_colours = has_colours
        self._width = width
        self._colours: dict[str, int] = {}
        self._news = threading.Condition()
        self._waiting: deque[_Piece] = deque()
        self._waiting_bytes = 0
        self._num_left_out = 0
        self._progress = self._drawn = b""
        self._is_closing = False
        self._has_reader = {output: True, error: True}
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def say(self, name: str, text: str) -> None:
        """Show a line on standard error, with a name before it."""
        data = self._prefixed(name, text)
        with self._news:
            if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self._num_left_out += 1
            else:
                self._add(_Piece(self._error, data))

    def result(self, text: str) -> None:
        """Show lines on standard output."""
        with self._news:
            self._add(_Piece(self._output, f"{text}\n".encode()))

    def progress(self, text: str) -> None:
        """Show how far things are, in the place of what was shown before; empty for nothing. Only in a terminal."""
        if self._is_interactive:
            with self._news:
                self._progress = text.encode()
                self._news.notify()

    def close(self) -> None:
        """Write what still waits, unless that takes too long."""
        with self._news:
            self._progress = b""
            self._is_closing = True
            self._news.notify()
        self._thread.join(_CLOSE_SECONDS)

    def _prefixed(self, name: str, text: str) -> bytes:
        prefix = f"{name:<{self._width}} |"
        if self._has_colours:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        return f"{prefix} {text}\n".encode(errors="backslashreplace")

    def _add(self, piece: _Piece) -> None:
        self._waiting.append(piece)
        self._waiting_bytes += len(piece.data)
        self._news.notify()

    # -- in the thread -------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        is_closing = False
        while not is_closing:
            with self._news:
                self._news.wait_for(self._has_news)
                pieces, self._waiting = self._waiting, deque()
                self._waiting_bytes = 0
                num_left_out, self._num_left_out = self._num_left_out, 0
                progress, is_closing = self._progress, self._is_closing
            if self._drawn:
                self._write(self._error, _ERASE)
            for piece in pieces:
                self._write(*piece)
            if num_left_out:
                lines = f"{num_left_out} lines were left out: they came faster than they could be shown"
                self._write(self._error, self._prefixed("up", lines))
            self._write(self._error, progress)
            self._drawn = progress

    def _has_news(self) -> bool:
        return bool(self._waiting or self._num_left_out or self._is_closing or self._progress != self._drawn)

    def _write(self, descriptor: int, data: bytes) -> None:
        while data and self._has_reader[descriptor]:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                select.select([], [descriptor], [])
            except OSError:
                self._has_reader[descriptor] = False
