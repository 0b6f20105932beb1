"""Bytes cut into lines."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.up.lines import MAX_LINE_BYTES, Lines, stream_of_lines

CHUNKS = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"\n", b"a\nb", "ä".encode(), b"\xff"]), max_size=12
)


@given(CHUNKS)
def test_how_the_bytes_come_does_not_matter(chunks: list[bytes]) -> None:
    """Any pieces give the lines of the whole, each once and in order; what has no end comes last."""
    lines = Lines()
    pieces = [line for chunk in chunks for line in lines.of(chunk)] + list(lines.rest())
    *whole, rest = b"".join(chunks).split(b"\n")
    assert pieces == [
        line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
        for line in [*whole, *([rest] if rest else [])]
    ]


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    """It comes in pieces of bounded length that make it up."""
    lines = Lines()
    sent = b"x" * (3 * MAX_LINE_BYTES + 5)
    pieces = [line for start in range(0, len(sent), 1000) for line in lines.of(sent[start : start + 1000])]
    assert len(pieces) == 3
    assert all(len(piece) <= MAX_LINE_BYTES for piece in pieces)
    assert "".join([*pieces, *lines.rest()]).encode() == sent


def test_text_and_bytes_may_be_written() -> None:
    """A stream takes both, as logs and the access log write them, and passes each line on when it is complete."""
    taken: list[str] = []
    stream = stream_of_lines(taken.append)
    stream.write("first\n")
    stream.buffer.write(b'{"json": 1}\n')
    stream.buffer.flush()
    assert taken == ["first", '{"json": 1}']
    stream.write("third, in ")
    stream.flush()
    assert len(taken) == 2
    print("two pieces \udcff", file=stream)
    assert taken[2:] == ["third, in two pieces \\udcff"]
