"""A streamed answer as its client reads it: whatever the pieces, whatever nonsense a server sends."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.replay.answer import AnswerReader

DONE = b"data: [DONE]\n\n"


def event(*, tokens: int | None = None, finish: str | None = None, cached: int | None = None) -> bytes:
    """Return an event with a choice, or the last one, which has usage only."""
    details = None if cached is None else {"cached_tokens": cached}
    usage = (
        None
        if tokens is None
        else {"prompt_tokens": 3, "completion_tokens": tokens, "prompt_tokens_details": details}
    )
    body = {"id": "x", "choices": [{"index": 0, "text": "é", "finish_reason": finish}], "usage": usage}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage_only(tokens: int, cached: int | None) -> bytes:
    """Return the event that closes a stream whose client asked for usage."""
    return event(tokens=tokens, cached=cached).replace(
        b'[{"index": 0, "text": "\\u00e9", "finish_reason": null}]', b"[]"
    )


def read(stream: bytes, wanted: int = 100) -> AnswerReader:
    """Read a stream that comes as a whole."""
    reader = AnswerReader(wanted)
    reader.feed(stream, 7)
    return reader


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    is_told=st.booleans(),
    ends=st.sampled_from([b"\n", b"\r\n"]),
    data=st.data(),
)
def test_the_pieces_do_not_matter(
    counts: list[int], ends: bytes, data: st.DataObject, *, is_told: bool
) -> None:
    """However a stream is cut, tokens, cached tokens and simulated times are the same."""
    told = [sum(counts[: place + 1]) for place in range(len(counts))]
    events = [event(tokens=total if is_told else None) for total in told[:-1]]
    total = told[-1] if is_told else len(counts)
    events.append(event(tokens=total if is_told else None, finish="length"))
    stream = b"".join(
        [b": X-Understudy-Queued-Seconds: 1.5\n\n", *events, usage_only(total, 2), b": other\n\n", DONE]
    ).replace(b"\n", ends)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    reader = AnswerReader(100)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end], start)
    assert reader.is_done
    assert reader.status() == "length"
    assert (reader.output_tokens, reader.cached_tokens) == (total, 2)
    assert reader.simulated == {"queued_seconds": 1.5}
    assert len(reader.inter_token_ns) == total - 1
    assert reader.first_token_ns is not None
    assert reader.last_token_ns == reader.first_token_ns + sum(reader.inter_token_ns)


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 3)), min_size=1, max_size=8))
def test_times_of_tokens(steps: Sequence[tuple[int, int]]) -> None:
    """Tokens that come together come without a gap; the first and the last have the times of their events."""
    reader, at_ns, total = AnswerReader(100), 0, 0
    expected: list[int] = []
    for gap_ns, count in steps:
        at_ns += gap_ns
        expected += [gap_ns if total else -1, *[0] * (count - 1)]
        total += count
        reader.feed(event(tokens=total), at_ns)
    assert reader.first_token_ns == steps[0][0]
    assert reader.last_token_ns == at_ns
    assert list(reader.inter_token_ns) == expected[1:]


@pytest.mark.parametrize(
    ("stream", "status", "message"),
    [
        (b"", "broken", None),
        (event(), "broken", None),
        (event(finish="length"), "broken", None),
        (event() + DONE, "broken", None),
        (event(finish="stop") + DONE, "stop", None),
        (event(finish="abort") + DONE, "finish-abort", None),
        (event(finish="\x1b[31m") + DONE, "finish-other", None),
        (b'data: {"error": {"message": "no", "code": 502}}\n\n' + DONE, "error-502", "no"),
        (b'data: {"error": {"message": "no", "code": 1000000}}\n\n', "error", "no"),
        (b'data: {"error": {}}\n\n', "error", None),
        (b"data: {nonsense\n\n", "unreadable", "{nonsense"),
        (b'data: {"choices": 5}\n\n', "unreadable", '{"choices": 5}'),
        (b"data: \xff\n\n", "unreadable", "\ufffd"),
        (b"x" * (1 << 20) + b"yz", "unreadable", "a line of more than 1,048,576 bytes"),
    ],
)
def test_how_an_answer_ends(stream: bytes, status: str, message: str | None) -> None:
    """Only an answer with a finish reason of vLLM's and [DONE] is whole; all else says what was wrong."""
    reader = read(stream)
    assert (reader.status(), reader.message) == (status, message)


@given(st.lists(st.integers(-(10**18), 10**18), max_size=5))
def test_no_server_makes_us_count_more_than_was_wanted(told: list[int]) -> None:
    """Counts that run back, jump or are negative leave bounded numbers."""
    reader = read(b"".join(event(tokens=count) for count in told), wanted=9)
    assert 0 <= reader.output_tokens <= 9
    assert len(reader.inter_token_ns) < 9


def test_nothing_counts_after_the_end() -> None:
    """What a server sends after [DONE] or an error changes nothing."""
    for end in (DONE, b'data: {"error": {"code": 500}}\n\n'):
        reader = read(event(finish="length") + end + event() + b": X-Understudy-Queued-Seconds: 1\n\n")
        assert (reader.output_tokens, reader.simulated) == (1, {})


@pytest.mark.parametrize("value", ["", "nan", "soon", "[1]"])
def test_simulated_times_that_are_none(value: str) -> None:
    """What is no number is left out, as from a server that has not got so far."""
    assert read(f": X-Understudy-Queued-Seconds: {value}\n\n".encode()).simulated == {}
