"""The access log: one JSON object a line, whatever clients send and whoever reads it."""

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.exchanges import exchange

from understudy.gateway.access_log import MAX_CHARACTERS, AccessLog, facts_of

GUIDE = Path(__file__).parents[2] / "docs" / "router.md"


def lines_of(*facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is written of requests with these facts."""
    stream = io.BytesIO()
    log = AccessLog(stream)
    for each in facts:
        log.answered(exchange(**each))
    *lines, rest = stream.getvalue().split(b"\n")
    assert rest == b""
    return [json.loads(line) for line in lines]


def test_a_line_says_what_happened() -> None:
    """Times are in milliseconds, null for what did not happen."""
    (line,) = lines_of({"first_byte_ns": None, "key_id": "abc"})
    assert line.pop("time")
    assert line == {
        "request_id": "r",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "model": "m",
        "worker": "http://w",
        "reason": "prefix",
        "outcome": "complete",
        "attempts": 1,
        "stream": True,
        "prompt_tokens": 100,
        "predicted_cached_tokens": 64,
        "cached_tokens": 48,
        "request_bytes": 300,
        "answer_bytes": 1000,
        "routing_ms": 0.1,
        "first_byte_ms": None,
        "total_ms": 500.0,
        "key": "abc",
    }


texts = st.text(max_size=1000).map(
    lambda text: text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
)


@given(st.lists(st.tuples(texts, texts, texts, texts)))
def test_every_request_is_one_line(requests: list[tuple[str, str, str, str]]) -> None:
    """Of bounded length, whatever clients put into it: line ends, quotes, bytes that are no text."""
    names = ("path", "model", "request_id", "method")
    lines = lines_of(*[dict(zip(names, texts, strict=True)) for texts in requests])
    assert len(lines) == len(requests)
    for line in lines:
        assert all(len(str(line[name])) <= 4 * MAX_CHARACTERS for name in names)


def test_surrogates_do_not_hide_a_request() -> None:
    """A path whose bytes are no UTF-8 is told with escapes."""
    (line,) = lines_of({"path": b"/\xff\xe9".decode("utf-8", "surrogateescape")})
    assert line["path"] == "/\\xff\\xe9"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_that_has_gone_hurts_nobody() -> None:
    """Of a pipe that nobody reads any more, and of a stream that is closed."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "wb", buffering=0)
    log = AccessLog(stream)
    log.answered(exchange())
    stream.close()
    log.answered(exchange())


def test_the_guide_names_every_field() -> None:
    """In the order in which they stand in a line."""
    section = GUIDE.read_text(encoding="utf-8").partition("## Access log")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == ["time", *facts_of(exchange())]
