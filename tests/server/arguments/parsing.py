"""Runs the parser where it may exit, and tells how it ended."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

from understudy.errors import UnderstudyError
from understudy.server.arguments import ServeArguments, parse_serve_arguments

TRACEBACK = 1
"""The status of vLLM where we raise an error of ours."""


class Outcome(NamedTuple):
    """The exit status, what was printed on both streams or is told by the error, and the arguments if status is 0."""

    status: int
    text: str
    arguments: ServeArguments | None = None


def outcome(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Outcome:
    """Parse and return how it ended."""
    printed = io.StringIO()
    try:
        with redirect_stderr(printed), redirect_stdout(printed):
            arguments = parse_serve_arguments(argv, environment or {})
    except SystemExit as end:
        return Outcome(int(end.code or 0), printed.getvalue())
    except UnderstudyError as error:
        return Outcome(TRACEBACK, str(error))
    return Outcome(0, "", arguments)


def parsed(*argv: str) -> ServeArguments:
    """Parse what must be right."""
    return parse_serve_arguments(argv, {})
