"""Our own format: nothing is lost in writing, and every mistake has its own words."""

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.workload.lines import native, read

from understudy.engine import Prompt, SegmentPrompt, TokenPrompt
from understudy.errors import TraceError
from understudy.tokenize import encode
from understudy.workload import WorkloadRequest, write_native
from understudy.workload.fields import MAX_ARRIVAL_NS, MAX_PRIORITY, MAX_SEGMENT_ID, MAX_TOKEN_ID, MAX_TOKENS
from understudy.workload.native import NativeParser

names = st.text(min_size=1, max_size=10)
token_ids = st.lists(st.integers(0, MAX_TOKEN_ID), min_size=1, max_size=20).map(tuple)


@st.composite
def segment_prompts(draw: st.DrawFn, segment_tokens: int) -> SegmentPrompt:
    """Draw prompts of which every segment is named."""
    num_tokens = draw(st.integers(1, 5 * segment_tokens))
    count = -(-num_tokens // segment_tokens)
    ids = draw(st.lists(st.integers(0, MAX_SEGMENT_ID), min_size=count, max_size=count, unique=True))
    return SegmentPrompt(num_tokens, tuple(ids), segment_tokens)


@st.composite
def workloads(draw: st.DrawFn) -> list[WorkloadRequest]:
    """Draw everything that a workload may say."""
    prompts: st.SearchStrategy[Prompt] = token_ids.map(TokenPrompt) | segment_prompts(
        draw(st.integers(1, 1000))
    )
    times_ns = sorted(draw(st.lists(st.integers(0, MAX_ARRIVAL_NS), max_size=5)))
    return [draw(_requests(time_ns, prompts)) for time_ns in times_ns]


@st.composite
def _requests(draw: st.DrawFn, time_ns: int, prompts: st.SearchStrategy[Prompt]) -> WorkloadRequest:
    output_ids = draw(st.none() | token_ids)
    prompt = draw(prompts)
    return WorkloadRequest(
        request_id=draw(names),
        arrival_ns=time_ns,
        prompt=prompt,
        output_tokens=draw(st.integers(1, MAX_TOKENS)) if output_ids is None else len(output_ids),
        output_ids=output_ids,
        session_id=draw(st.none() | names),
        priority=draw(st.integers(-MAX_PRIORITY, MAX_PRIORITY)),
        cache_salt=draw(st.none() | names) if isinstance(prompt, TokenPrompt) else None,
    )


# The first text that is ever drawn in a checkout waits for tables of all characters.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(workloads())
def test_reading_gives_back_what_was_written(requests: list[WorkloadRequest]) -> None:
    """Write, then read: the same requests, to the nanosecond."""
    file = BytesIO()
    write_native(requests, file)
    parser = NativeParser()
    assert [parser.parse(line) for line in file.getvalue().splitlines()] == requests


def test_sequences_of_any_kind_can_be_written() -> None:
    """A list of token ids is written as a tuple is."""
    written = []
    for kind in (list, tuple):
        file = BytesIO()
        request = WorkloadRequest(
            request_id="a",
            arrival_ns=1,
            prompt=TokenPrompt(kind([1, 2])),
            output_tokens=2,
            output_ids=kind([3, 4]),
        )
        write_native([request], file)
        written.append(file.getvalue())
    assert written[0] == written[1]


def test_a_text_is_tokenized(tmp_path: Path) -> None:
    """A prompt may be text; texts that share their start share their first ids."""
    short, long = read(
        tmp_path / "t", native(prompt="once upon a time"), native(prompt="once upon a time there")
    )
    assert isinstance(short.prompt, TokenPrompt)
    assert isinstance(long.prompt, TokenPrompt)
    assert list(short.prompt.token_ids) == encode("once upon a time")
    assert long.prompt.token_ids[: short.prompt.num_tokens] == short.prompt.token_ids


def test_outputs_alone_say_how_many(tmp_path: Path) -> None:
    """`output_tokens` may be left out where the outputs themselves are given, or repeat their number."""
    alone, both = read(
        tmp_path / "t", native(output_tokens=..., outputs=[8, 9]), native(output_tokens=2, outputs=[8, 9])
    )
    assert alone == both == replace(both, output_tokens=2, output_ids=(8, 9))


PROMPT = (
    "prompt must be a list of token ids, a text, or an object with num_tokens, segment_ids and "
    "segment_tokens, "
    "none of them empty"
)
IDS = "outputs must be a list of token ids, integers from 0 to 4,294,967,295"


def segments(**changes: object) -> dict[str, object]:
    """Return a prompt of segments, with changes."""
    return {"num_tokens": 5, "segment_ids": [1, 2], "segment_tokens": 4, **changes}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (native(prompt=[]), f"{PROMPT}, got []"),
        (native(prompt=""), f'{PROMPT}, got ""'),
        (native(prompt=[1, -1]), f"{PROMPT}, got -1 at index 1"),
        (native(prompt=[1, 2**32]), f"{PROMPT}, got 4294967296 at index 1"),
        (native(prompt=[1, "x"]), f'{PROMPT}, got "x" at index 1'),
        (native(prompt=[1, 2.5]), f"{PROMPT}, got 2.5 at index 1"),
        (native(prompt=5), f"{PROMPT}, got 5"),
        (native(prompt={"num_tokens": 5}), f'{PROMPT}, got {{"num_tokens": 5}}'),
        (
            native(prompt=segments(segment_ids=[1])),
            "segment_ids must hold 2 ids, one for every 4 of 5 tokens, got 1",
        ),
        (
            native(prompt=segments(segment_tokens=3)),
            "segment_tokens must be the same in a whole workload, got 3 after 4",
        ),
        (native(id=""), 'id must be a text that is not empty, got ""'),
        (native(id=7), "id must be a text that is not empty, got 7"),
        (native(session=""), 'session must be a text that is not empty, got ""'),
        (
            native(priority=2**40),
            f"priority must be an integer of at most 2,147,483,647 either way, got {2**40}",
        ),
        (native(outputs=[]), f"{IDS}, got []"),
        (native(outputs=[-7]), f"{IDS}, got -7 at index 0"),
        (native(outputs=[1]), "output_tokens must be the number of outputs, 1, got 4"),
        (native(output_tokens=...), "missing field output_tokens or outputs"),
        (native(arrival_seconds=...), "missing field arrival_seconds"),
        (
            native(arrival_seconds=-0.5),
            "arrival_seconds must be a number from 0 to 1,000,000,000, got -0.5",
        ),
        (native(arrival_seconds=0.25), "arrival_seconds must not run back, got 0.25 after 0.5"),
        (native(prioritiy=1), "unknown field 'prioritiy': did you mean priority, prompt?"),
        (native(id="a\ud800"), "not valid JSON: JSON is malformed: unexpected end of hex escape (byte 15)"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_field(tmp_path: Path, line: str, problem: str) -> None:
    """One line says which file, which line, which field, what it must be and what it is."""
    path = tmp_path / "t"
    with pytest.raises(TraceError, match="^" + re.escape(f"{path}: line 2: {problem}") + "$"):
        read(path, native(prompt=segments()), line)
