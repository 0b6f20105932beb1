"""Quantiles of a histogram, and how its bins read."""

from hypothesis import given
from hypothesis import strategies as st
from tests.report.comparisons import bins

from understudy.fleet.summary import Bin
from understudy.report.rows import bin_label, quantile_bin


@given(bins(), st.sampled_from([25, 50, 90, 100]))
def test_the_quantile_lies_in_its_bin(found: list[Bin], percent: int) -> None:
    """Counting requests one by one to the nearest rank ends in the same bin, whatever the bins' order."""
    one_by_one = [each for each in found for _ in range(each.count)]
    expected = one_by_one[-(-percent * len(one_by_one) // 100) - 1] if one_by_one else None
    assert expected == quantile_bin(found, percent / 100) == quantile_bin(found[::-1], percent / 100)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_bin_reads_as_the_whole_numbers_in_it(low: int, width: int) -> None:
    """A bin of one number is that number; a wider one names its first and its last."""
    label = bin_label(Bin(low=low, high=low + width, count=1))
    numbers = [int(number) for number in label.split("-")]
    assert numbers == ([low] if width == 1 else [low, low + width - 1])
