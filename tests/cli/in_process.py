"""Runs a command line within this process, where a property needs many."""

import io
from contextlib import redirect_stderr, redirect_stdout

from understudy.cli.main import status_of


def output_of(*arguments: str) -> tuple[int, str]:
    """Return the exit status, and what was printed on standard output, or of a failure on standard error."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stderr = io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        status = status_of(list(arguments))
    stdout.flush()
    stdout.seek(0)
    return status, stderr.getvalue() if status else stdout.read()
