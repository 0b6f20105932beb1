"""The list of known differences: what a pattern covers, and the page made of it."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.differential.compare import Difference
from tests.differential.known import Known, explanation, markdown, read_known

FOUND = Difference("POST /v1/completions", "value", "body.error.message", "one\ntwo", "three")
KNOWN = Known(
    route="POST /v1/.*", kind="value", field=r"body\.error\..*", reason="because | so", judge="one.*"
)


@pytest.mark.parametrize(
    "other",
    [
        replace(FOUND, route="GET /v1/completions"),
        replace(FOUND, kind="type"),
        replace(FOUND, field="body.error"),
        replace(FOUND, judge="no one"),
    ],
)
def test_a_pattern_covers_only_what_matches_in_every_part(other: Difference) -> None:
    """Route, kind, field and what the judge said all have to match as a whole."""
    assert explanation(FOUND, [KNOWN]) == 0
    assert explanation(other, [KNOWN]) is None


def test_the_first_pattern_explains() -> None:
    """So a narrow pattern before a wide one is counted by itself."""
    assert explanation(FOUND, [msgspec.structs.replace(KNOWN, kind="type"), KNOWN, KNOWN]) == 1


def test_the_page_has_a_row_for_each() -> None:
    """Bars within a cell do not break the table."""
    page = markdown([KNOWN, KNOWN])
    assert page.count("because \\| so") == 2
    assert "None." in markdown([])


@pytest.mark.parametrize("broken", [b"{", b'[{"route": "x"}]', b"[1]"])
def test_a_malformed_file_is_refused(tmp_path: Path, broken: bytes) -> None:
    """With an error that the command tells."""
    file = tmp_path / "known.json"
    file.write_bytes(broken)
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec's own words
        read_known(file)


def test_a_pattern_that_is_no_regular_expression_is_refused(tmp_path: Path) -> None:
    """The message names it."""
    file = tmp_path / "known.json"
    file.write_bytes(msgspec.json.encode([msgspec.structs.replace(KNOWN, field="body[")]))
    with pytest.raises(ValueError, match=r"body\["):
        read_known(file)
