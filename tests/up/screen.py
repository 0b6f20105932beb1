"""A terminal of pipes, whose other ends a test reads."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from understudy.up.terminal import Terminal


class Screen:
    """The other ends of both pipes; a thread reads from when it is told to."""

    def __init__(self, *, is_interactive: bool = False, has_colours: bool = False) -> None:
        self._output, output = os.pipe()
        self._error, error = os.pipe()
        self._ends = [output, error]
        self.terminal = Terminal(
            output, error, is_interactive=is_interactive, has_colours=has_colours, width=8
        )
        self._read: dict[int, bytes] = {self._output: b"", self._error: b""}
        self._threads = [threading.Thread(target=self._follow, args=[end]) for end in self._read]

    def read(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def _follow(self, descriptor: int) -> None:
        while piece := os.read(descriptor, 65536):
            self._read[descriptor] += piece

    def end(self) -> None:
        """Close the terminal, and read to the end."""
        self.terminal.close()
        for end in self._ends:
            os.close(end)
        for thread in self._threads:
            thread.join()
        os.close(self._output)
        os.close(self._error)

    @property
    def output(self) -> str:
        """What came to standard output."""
        return self._read[self._output].decode()

    @property
    def error(self) -> str:
        """What came to standard error."""
        return self._read[self._error].decode()


@contextmanager
def screen(**options: bool) -> Iterator[Screen]:
    """Yield a screen that is read from the start; it has ended after the block."""
    one = Screen(**options)
    one.read()
    try:
        yield one
    finally:
        one.end()
