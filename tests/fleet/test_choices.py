"""Counts may be written as vLLM takes them: its own examples, and a suffix is always its multiple."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.fleet.choices import human_readable_int


@pytest.mark.parametrize(
    ("text", "value"),
    [("1k", 1000), ("1K", 1024), ("25.6k", 25_600), ("2M", 2 * 2**20), ("8192", 8192), ("-1", -1)],
)
def test_the_examples_of_vllm(text: str, value: int) -> None:
    """Small letters count in powers of 1,000, capitals in powers of 1,024."""
    assert human_readable_int(text) == value


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_suffix_is_a_multiple(number: int, power: int) -> None:
    """Of 1,000 or 1,024, to the first power for k up to the fourth for t."""
    letter = "kmgt"[power - 1]
    assert human_readable_int(f"{number}{letter}") == number * 1000**power
    assert human_readable_int(f" {number}{letter.upper()} ") == number * 1024**power


@pytest.mark.parametrize("text", ["", "k", "8kk", "8 k", "8x", "8.5", "0x10", "1e3", "8.5K"])
def test_what_is_no_count_is_refused(text: str) -> None:
    """With the text in the message."""
    with pytest.raises(ValueError, match=f'"{text}"'):
        human_readable_int(text)
