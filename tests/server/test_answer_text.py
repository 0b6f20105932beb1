"""The text of an answer against a plain model: all text, cut at the stop string that is complete first."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.server.answer_text import AnswerText

pieces = st.lists(st.text("ab.", min_size=0, max_size=3), max_size=12)
stops = st.lists(st.text("ab.", min_size=1, max_size=3), max_size=3)


class _Pieces:
    """A stream whose token n has the nth piece as its text."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def add(self, token_id: int) -> str:
        return self._texts[token_id]


def _model(
    texts: list[str], stop: list[str], *, includes: bool, min_tokens: int
) -> tuple[str, str | None, int]:
    """Look at the whole text after each token, as one who reads along would."""
    text = ""
    for number, piece in enumerate(texts):
        start = len(text)
        text += piece
        if number + 1 <= min_tokens:
            continue
        ends = [
            (at + len(one), order, one)
            for order, one in enumerate(stop)
            for at in range(len(text))
            if text.startswith(one, at) and at + len(one) > start
        ]
        if ends and piece:
            end, _, found = min(ends)
            return text[: end if includes else end - len(found)], found, number + 1
    return text, None, len(texts)


@given(texts=pieces, stop=stops, includes=st.booleans(), min_tokens=st.integers(0, 4))
def test_it_stops_where_a_reader_would(
    texts: list[str], stop: list[str], *, includes: bool, min_tokens: int
) -> None:
    """Same text, same stop string, after the same token; what was taken on the way adds up to the text."""
    expected = _model(texts, stop, includes=includes, min_tokens=min_tokens)
    answer = AnswerText(_Pieces(texts), stop=stop, include_stop_str_in_output=includes, min_tokens=min_tokens)
    taken, found, count = "", None, 0
    for number in range(len(texts)):
        found = answer.add(number)
        count += 1
        taken += answer.take(finished=found is not None or count == len(texts))
        if found is not None:
            break
    assert (answer.text, found, count) == expected
    assert taken == answer.text


@given(pieces, stops)
def test_what_was_sent_is_never_taken_back(texts: list[str], stop: list[str]) -> None:
    """Every prefix that a client has seen is a prefix of the final text."""
    answer = AnswerText(_Pieces(texts), stop=stop)
    seen = [""]
    for number in range(len(texts)):
        stopped = answer.add(number) is not None
        seen.append(seen[-1] + answer.take(finished=stopped))
        if stopped:
            break
    assert all(answer.text.startswith(text) for text in seen)


def test_a_token_that_ends_the_answer_has_no_text() -> None:
    """Unless what stops is to be included."""
    quiet = AnswerText(_Pieces(["a", "b"]))
    loud = AnswerText(_Pieces(["a", "b"]), include_stop_str_in_output=True)
    for answer in (quiet, loud):
        answer.add(0)
        answer.add(1, ends_by_token=True)
    assert (quiet.text, loud.text) == ("a", "ab")
