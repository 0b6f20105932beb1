"""Drawings: policies stay apart, bars are as long as their values."""

import re
from itertools import pairwise
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.markup import drawings, polylines

from understudy.report.axes import count_axis, share_axis, time_axis
from understudy.report.charts import Line, Words, bar_chart, line_chart, lying_bars, style_classes

WORDS = Words("key", "title", "description")
amounts = st.lists(st.integers(0, 10**6), min_size=1, max_size=12)


def only(document: str) -> Element:
    """Return the one drawing in the document."""
    (found,) = drawings(document)
    return found


def shapes(element: Element) -> list[str]:
    """Return the outline of every bar, in order."""
    return [
        path.get("d") or "" for path in element.iter("path") if (path.get("class") or "").startswith("bar")
    ]


def test_49_policies_look_different() -> None:
    """No two of the first 49 share both colour and dashes, and no two of the first 7 share either."""
    styles = [tuple(style_classes(style).split()) for style in range(49)]
    assert len(set(styles)) == 49
    assert len({colour for colour, _ in styles[:7]}) == len({dashes for _, dashes in styles[:7]}) == 7


@given(amounts)
def test_upright_bars_are_as_high_as_their_values(values: list[int]) -> None:
    """Heights are to one another as the values, to the tenth of a unit to which a coordinate is given."""
    axis = count_axis("n", max(values))
    (outline,) = shapes(
        only(bar_chart(WORDS, 0, [(str(value), float(value)) for value in values], "worker", axis))
    )
    heights = [float(foot) - float(top) for foot, top in re.findall(r"M\S+ (\S+?)V([^h]+)h", outline)]
    plot_height = 150 - 12 - 46
    assert heights == pytest.approx([value / axis.high * plot_height for value in values], abs=0.11)


@given(amounts)
def test_lying_bars_are_as_long_as_their_values(values: list[int]) -> None:
    """Lengths are to one another as the values, and each value is written out."""
    axis = count_axis("n", max(values))
    element = only(lying_bars(WORDS, 0, [("label", float(value), f"is {value}") for value in values], axis))
    ends = [re.fullmatch(r"M(\S+) \S+H([^v]+)v.*", outline) for outline in shapes(element)]
    lengths = [float(end[2]) - float(end[1]) for end in ends if end]
    plot_width = 440 - 76 - 84
    assert lengths == pytest.approx([value / axis.high * plot_width for value in values], abs=0.11)
    texts = [text.text for text in element.iter("text")]
    assert all(f"is {value}" in texts for value in values)


@given(st.integers(1, 300), st.integers(1, 400))
def test_labels_below_bars_never_overlap(bars: int, first: int) -> None:
    """Where bars are many, some go without a label, but never the first."""
    named = [(str(first + index), 1.0) for index in range(bars)]
    element = only(bar_chart(WORDS, 0, named, "worker", count_axis("n", 1)))
    places = [
        (float(text.get("x") or 0), len(text.text or ""))
        for text in element.iter("text")
        if text.get("y") == "121" and text.get("class") == "mid"
    ]
    assert places
    rough_character_width = 5.5
    for (left, one), (right, other) in pairwise(places):
        assert right - left >= (one + other) / 2 * rough_character_width


def test_a_lone_point_is_a_dot() -> None:
    """A series with one value is not invisible."""
    element = only(line_chart(WORDS, [Line(0, [(0.5, 0.5)])], time_axis("t", 1.0), share_axis("share")))
    assert polylines(element) == []
    assert len(list(element.iter("circle"))) == 1
