"""Runs `understudy` as a process of its own, and the small files that such runs read."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

UNDERSTUDY = (sys.executable, "-m", "understudy")
TIMEOUT_SECONDS = 200
"""Far more than any of these runs takes; only a hang gets there."""

TRACE = (
    '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
    '{"timestamp": 40, "input_length": 900, "output_length": 9, "hash_ids": [1, 3]}\n'
    '{"timestamp": 90, "input_length": 512, "output_length": 1, "hash_ids": [4]}\n'
    '{"timestamp": 90, "input_length": 700, "output_length": 3, "hash_ids": [1, 3]}\n'
)
NUM_REQUESTS = TRACE.count("\n")

WAITING_POLICY = """
import time
from pathlib import Path

def choose(request, fleet, memory):
    while memory.decisions == 2:
        Path("waiting").touch()
        time.sleep(0.01)
    return 0
"""
"""Gives two requests to worker 0 and never ends with the third; a file then tells that it has come so far."""


class Finished(NamedTuple):
    """What a process left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """What an unsuccessful run said: one line on standard error and nothing else."""
        assert self.stdout == ""
        assert self.stderr.startswith("understudy: ")
        assert self.stderr.count("\n") == 1
        assert self.stderr.endswith("\n")
        return self.stderr.strip()


def environment(**variables: str) -> dict[str, str]:
    """Return ours without what changes how output looks or how text is hashed."""
    changes_output = (
        "COLUMNS",
        "LINES",
        "FORCE_COLOR",
        "NO_COLOR",
        "TERM",
        "PYTHONHASHSEED",
        "PYTHONIOENCODING",
    )
    kept = {name: value for name, value in os.environ.items() if name not in changes_output}
    return {**kept, "TERM": "xterm-256color", **variables}


def understudy(
    *arguments: str, cwd: Path, stdin: str | IO[bytes] | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run one command to its end; a text as `stdin` comes through a pipe."""
    process = subprocess.run(
        [*UNDERSTUDY, *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        input=stdin.encode() if isinstance(stdin, str) else None,
        stdin=subprocess.DEVNULL if stdin is None else stdin if not isinstance(stdin, str) else None,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return Finished(process.returncode, process.stdout.decode(), process.stderr.decode())


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Return all files and folders below, hidden ones too, with what the files hold."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }
