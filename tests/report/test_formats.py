"""Numbers in words: right to the last digit shown, in a unit that reads well."""

import math

from hypothesis import given
from hypothesis import strategies as st

from understudy.report.formats import (
    MISSING,
    NO_BREAK,
    compact,
    duration,
    percent,
    plural,
    printable,
    significant,
)


@given(st.text())
def test_printable_text_is_one_line_of_visible_characters(text: str) -> None:
    """No control, no line break, no half of a surrogate pair remains, and the text keeps its length."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(text) == len(shown)
    assert shown.encode().decode() == shown
    assert shown == printable(shown)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_visible_characters_are_left_as_they_are(text: str) -> None:
    """Letters of every script, digits, punctuation and signs pass unchanged."""
    assert text == printable(text)


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_times_read_back_in_their_unit(seconds: float) -> None:
    """Below one second in ms, from there in s, and within a half per cent or the last of six decimals."""
    number, unit = duration(seconds).split(NO_BREAK)
    size = {"ms": 0.001, "s": 1.0}[unit]
    read = float(number.replace(",", "")) * size
    assert math.isclose(read, seconds, rel_tol=0.0051, abs_tol=size * 0.5000001e-6)
    assert (unit == "ms") == (seconds < 0.9995)
    assert "e" not in number


def test_what_is_not_there_is_a_dash() -> None:
    """Neither a missing time nor an undefined quotient gives a number."""
    assert {MISSING} == {duration(None), duration(math.nan), percent(math.nan), significant(math.inf)}


def test_zero_is_zero() -> None:
    """Nothing is shown without false digits."""
    assert (f"0{NO_BREAK}ms", "0", "0") == (duration(0.0), significant(0.0), compact(0.0))


@given(st.integers(1, 999), st.sampled_from([("", 1), ("k", 10**3), ("M", 10**6), ("G", 10**9)]))
def test_axis_numbers_use_the_usual_suffixes(number: int, suffix: tuple[str, int]) -> None:
    """Thousands, millions and milliards are k, M and G."""
    letter, size = suffix
    assert f"{number}{letter}" == compact(number * size)


def test_nouns_follow_their_number() -> None:
    """One is singular; all others, none included, are plural."""
    assert [plural(number, "note") for number in range(3)] == ["0 notes", "1 note", "2 notes"]
    assert [plural(number, "policy", "policies") for number in (1, 2)] == ["1 policy", "2 policies"]
