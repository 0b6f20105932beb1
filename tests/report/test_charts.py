"""Drawings: policies stay apart, bars are as long as their values."""

import re
from importlib import resources
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


def luminance(colour: str) -> float:
    """Return the relative luminance of '#rrggbb', 0 to 1, as WCAG 2 defines it."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def shapes(element: Element) -> list[str]:
    """Return the outline of every bar, in order."""
    return [
        path.get("d") or "" for path in element.iter("path") if (path.get("class") or "").startswith("bar")
    ]


def test_63_policies_look_different() -> None:
    """No two of 63 share both colour and dashes, no two of the first 9 a colour, nor of the first 7 dashes."""
    styles = [tuple(style_classes(style).split()) for style in range(63)]
    assert len(set(styles)) == 63
    assert len({colour for colour, _ in styles[:9]}) == 9
    assert len({dashes for _, dashes in styles[:7]}) == 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_style_is_drawn_and_every_colour_can_be_seen(scheme: str) -> None:
    """Each class has its rule, and each colour at least 2:1 contrast against the page, and is given once."""
    style = resources.files("understudy.report").joinpath("style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    colours = dict(re.findall(r"--(page|c\d): (#\w{6})", light if scheme == "light" else dark))
    classes = {name for place in range(63) for name in style_classes(place).split()}
    assert all(f".{name} " in style for name in classes - {"d0"})
    assert set(colours) == {"page"} | {name for name in classes if name.startswith("c")}
    assert len(set(colours.values())) == len(colours)
    page = luminance(colours.pop("page"))
    for colour in colours.values():
        low, high = sorted([page, luminance(colour)])
        assert (high + 0.05) / (low + 0.05) >= 2


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
