"""Differences that are meant or accepted, each with its reason; one that no longer occurs is stale and must go.

python -m tests.differential.known --markdown     a page of them
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.differential.compare import Difference

DEFAULT_FILE = Path(__file__).with_name("known_differences.json")


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of differences; `route`, `field`, `judge` and `ours` are regular expressions for the whole of each."""

    route: str
    kind: str
    field: str
    reason: str
    judge: str = ".*"
    ours: str = ".*"

    def covers(self, difference: Difference) -> bool:
        """Return whether the difference is one of these."""
        pairs = (
            (self.route, difference.route),
            (self.kind, difference.kind),
            (self.field, difference.field),
            (self.judge, str(difference.judge)),
            (self.ours, str(difference.ours)),
        )
        return all(re.fullmatch(pattern, text, re.DOTALL) for pattern, text in pairs)


def read_known(file: Path = DEFAULT_FILE) -> list[Known]:
    """Return the known differences of a file.

    Raises:
        ValueError: the file is malformed, or a pattern of it is no regular expression.
    """
    known = msgspec.json.decode(file.read_bytes(), type=list[Known])
    for one in known:
        for pattern in (one.route, one.kind, one.field, one.judge, one.ours):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{file}: {pattern!r} is no regular expression: {error}") from error
    return known


def explanation(difference: Difference, known: Sequence[Known]) -> int | None:
    """Return the place of the first known difference that covers this one."""
    return next((place for place, one in enumerate(known) if one.covers(difference)), None)


def markdown(known: Sequence[Known]) -> str:
    """Return the known differences as a page."""
    lines = [
        "# Known differences from vLLM over HTTP",
        "",
        "Found by sending the same generated requests to vLLM 0.33 and to `understudy serve`. Anything else that differs fails the test.",
        "",
    ]
    if not known:
        return "\n".join([*lines, "None.", ""])
    lines += ["| request | what | where | why |", "| --- | --- | --- | --- |"]
    for one in known:
        cells = (f"`{one.route}`", one.kind, f"`{one.field}`", one.reason)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential.known", description="List the known differences."
    )
    parser.add_argument(
        "--markdown", action="store_true", required=True, help="print them as a page of the documentation"
    )
    parser.add_argument("--known", type=Path, default=DEFAULT_FILE, help="the file of known differences")
    print(markdown(read_known(parser.parse_args().known)), end="")


if __name__ == "__main__":
    main()
