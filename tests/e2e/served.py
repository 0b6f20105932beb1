"""`understudy serve` as a process of its own, and plain HTTP to speak with it."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.cli.processes import TIMEOUT_SECONDS, environment

MODEL = "llama-3.1-8b"
SERVE = ("-m", "understudy", "serve", MODEL, "--host", "127.0.0.1")
SERVE_WITHOUT_UVLOOP = (
    "-c",
    "import sys; sys.modules['uvloop'] = None; sys.argv[0] = 'understudy'; from understudy.cli.main import run; run()",
    *SERVE[2:],
)
_ADDRESS = re.compile(r"Serving on https?://127\.0\.0\.1:(\d+) ")


class Server:
    """A running process; its log is read line by line as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self.port = 0
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.log.append(line)
                self._news.notify_all()
        with self._news:
            self.log.append("")
            self._news.notify_all()

    def wait_for(self, words: str) -> str:
        """Wait for a line of the log with these words, and return it."""

        def found() -> bool:
            return any(words in line for line in self.log) or self.log[-1:] == [""]

        with self._news:
            assert self._news.wait_for(found, TIMEOUT_SECONDS), words
        (line, *_) = [line for line in self.log if words in line] or [""]
        assert line, f"{words!r} does not come: {self.log}"
        return line

    def wait_until_it_serves(self) -> None:
        """Wait for the line that tells the address."""
        match = _ADDRESS.search(self.wait_for("Serving on "))
        assert match is not None
        self.port = int(match[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Return the exit status of a process that ends by itself."""
        status = self.process.wait(TIMEOUT_SECONDS)
        self._reader.join()
        return status

    @property
    def text(self) -> str:
        """All of the log so far."""
        return "".join(self.log)

    def request(
        self, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request over a connection of its own and return the answer, whose body is to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        given = {"Connection": "close", **(headers or {})}
        if body is None:
            connection.request("GET", path, headers=given)
        else:
            given["Content-Type"] = "application/json"
            connection.request("POST", path, json.dumps({"model": MODEL, **body}), given)
        return connection.getresponse()


@contextmanager
def served(
    *flags: str, command: Sequence[str] = SERVE, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server, and kill it in the end if it is still there."""
    with subprocess.Popen(
        [sys.executable, *command, *(() if "--port" in flags else ("--port", "0")), *flags],
        env=environment(**(variables or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()
