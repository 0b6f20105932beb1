"""vLLM's side as a process: cases go in, trials come out; a judge that breaks down or falls silent is an error."""

import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from types import TracebackType
from typing import Self

import msgspec

from understudy import VLLM_VERSION
from understudy.errors import InputError
from understudy.verify.cases import Case
from understudy.verify.trial import Trial

DEFAULT_VLLM_PYTHON = Path(".venv-vllm/bin/python")
START_SECONDS = 300.0
"""vLLM takes long to import from a cold disk."""
CASE_SECONDS = 120.0

_SCRIPT = Path(__file__).with_name("judge.py")
_LINES_AHEAD = 8


class _Greeting(msgspec.Struct):
    vllm: str


class JudgeProcess:
    """`judge.py` run by vLLM's Python, as a context; raises InputError when it cannot start, ends early or is too slow.

    Threads feed it and read it, so that both sides of a comparison work at the same time.
    """

    def __init__(self, vllm_python: Path, *, case_seconds: float = CASE_SECONDS) -> None:
        self._python = vllm_python
        self._case_seconds = case_seconds
        self._lines: Queue[bytes | None] = Queue(_LINES_AHEAD)

    def __enter__(self) -> Self:
        if not self._python.exists():
            raise InputError(
                f"vLLM's environment is missing: there is no {self._python}. `make vllm-env` builds it."
            )
        self._complaints = tempfile.TemporaryFile()
        try:
            self._process = self._start()
        except OSError as error:
            self._complaints.close()
            raise InputError(
                f"vLLM's environment cannot be used: {self._python}: {error.strerror}. `make vllm-env` builds it anew."
            ) from error
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._greet()
        except BaseException:
            self._end()
            raise
        return self

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - a script of ours, by the Python that the user names
            [self._python, "-P", _SCRIPT],  # -P: vLLM is not to find our modules next to the script
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # the order of sets is that of every other run
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _greet(self) -> None:
        greeting = msgspec.json.decode(self._next_line(START_SECONDS, "starting"), type=_Greeting)
        self.vllm = greeting.vllm
        if self.vllm != VLLM_VERSION:
            raise InputError(
                f"{self._python} has vLLM {self.vllm}, and understudy stands in for vLLM {VLLM_VERSION}. "
                "`make vllm-env` builds an environment with that."
            )

    def trials(self, cases: Iterable[Case]) -> Iterator[tuple[Case, Trial]]:
        """Yield each case with what vLLM made of it, in order; take all before you ask again."""
        asked: Queue[Case | BaseException | None] = Queue()
        Thread(target=self._feed, args=(cases, asked), daemon=True).start()
        while (case := asked.get()) is not None:
            if isinstance(case, BaseException):
                raise case
            line = self._next_line(self._case_seconds, "a case")
            try:
                trial = msgspec.json.decode(line, type=Trial)
            except msgspec.DecodeError as error:
                raise InputError(f"vLLM's side said what is no trial: {line[:80]!r}") from error
            yield case, trial

    def trial(self, case: Case) -> Trial:
        """Return what vLLM made of one case."""
        ((_, trial),) = self.trials([case])
        return trial

    def _feed(self, cases: Iterable[Case], asked: "Queue[Case | BaseException | None]") -> None:
        assert self._process.stdin is not None, "it is a pipe"
        try:
            for case in cases:
                asked.put(case)
                self._process.stdin.write(msgspec.json.encode(case) + b"\n")
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # whoever reads the answers notices that they end
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
            asked.put(error)
        asked.put(None)

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _next_line(self, limit_seconds: float, doing: str) -> bytes:
        try:
            line = self._lines.get(timeout=limit_seconds)
        except Empty:
            raise InputError(f"vLLM's side hangs: {doing} took more than {limit_seconds:g} s") from None
        if line is None:
            self._process.wait()
            raise InputError(f"vLLM's side broke down while {doing}: {self._last_complaint()}")
        return line

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        last = deque(self._complaints, maxlen=1)
        told = last[0].decode(errors="replace").strip() if last else "it said nothing"
        return f"{told} (exit status {self._process.returncode})"

    def _end(self) -> None:
        self._process.kill()
        while self._reader.is_alive():
            with suppress(Empty):
                self._lines.get(timeout=0.1)
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._complaints.close()
