"""Where results go, and how a command tells them: what `simulate`, `compare`, `demo` and `replay` share."""

import sys
from pathlib import Path

from rich.console import Console

from understudy.cli.options import OutputOptions
from understudy.cli.status import INTERRUPTED, SUCCESS
from understudy.fleet import Comparison, to_json
from understudy.report import print_comparison


def results_path(output: OutputOptions) -> Path | None:
    """Return the folder for the results, None where they are printed only."""
    if output.output is not None:
        return output.output
    if output.json:
        return None
    number = 1
    # A run that is under way still writes beside its final place.
    while (path := Path(f"understudy-results-{number}")).exists() or any(Path().glob(f".{path}-*")):
        number += 1
    return path


def tell(comparison: Comparison, path: Path | None, *, as_json: bool) -> int:
    """Print the results and where they are, and return the exit status."""
    if as_json:
        sys.stdout.buffer.write(to_json(comparison))
    else:
        print_comparison(comparison, Console(soft_wrap=False))
    if path is not None:
        print(f"\nReport: {path / 'report.html'}", file=sys.stderr if as_json else sys.stdout)
    if comparison.interrupted:
        print("understudy: interrupted; the results cover what had happened until then", file=sys.stderr)
        return INTERRUPTED
    return SUCCESS


def plain_text(argument: str) -> str:
    """Return an argument of the command line as text that can be written, also where a file's name is no UTF-8."""
    return argument.encode(errors="surrogateescape").decode(errors="replace")
