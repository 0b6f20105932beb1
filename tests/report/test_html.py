"""The HTML report: safe with any text, alone with itself, the same every time, and never at a loss."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.comparisons import comparisons, distributions, sample
from tests.report.markup import Page, drawing, drawings, polylines

from understudy.fleet.summary import Comparison, Distribution
from understudy.report import comparison_html
from understudy.report.formats import printable

HOSTILE = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "</title><script>alert(1)</script>",
            "\"><img src='http://example.org/x'>",
            "' onload='x",
            "--><!-- ]]>",
            "</svg></style><b>",
            "&lt;&#60;&",
            "\x00\x1b[31m\ud800\ufffe\u202e",
            "url(http://example.org)",
        ]
    ),
)
MAY_HOLD_FOREIGN_TEXT = {"aria-label"}


def shape(document: str) -> list[object]:
    """Return all tags and attributes, without the values of those that may hold text from outside."""
    return [
        (tag.name, [(key, "" if key in MAY_HOLD_FOREIGN_TEXT else value) for key, value in tag.attributes])
        for tag in Page(document).tags
    ]


@given(text=HOSTILE, policies=st.lists(HOSTILE, min_size=2, max_size=2))
@settings(deadline=None, max_examples=60)
def test_text_from_outside_never_becomes_markup(text: str, policies: list[str]) -> None:
    """Whatever policies, traces, notes and settings are called, the tags and attributes stay the same."""
    document = comparison_html(sample(policies, text=text + "."))
    assert shape(comparison_html(sample(["one", "two"]))) == shape(document)


@given(text=HOSTILE)
@settings(deadline=None, max_examples=60)
def test_text_from_outside_is_shown(text: str) -> None:
    """A policy, a note and the command can be read on the page, every visible character of them."""
    page = Page(comparison_html(sample([text], text=f"{text}.")))
    texts = "".join(data for _, data in page.texts)
    assert printable(text) in texts
    assert [(f"{printable(text)}.")] == [data for element, data in page.texts if element == "code"]


@given(comparison=comparisons())
@settings(deadline=None, max_examples=60)
def test_every_comparison_gives_a_balanced_page_without_a_stray_value(comparison: Comparison) -> None:
    """No distribution, series or worker need have values: the page is whole and never says nan or None."""
    document = comparison_html(comparison)
    page = Page(document)
    assert page.unbalanced == []
    assert re.search(r"(?i:\bnan\b|\binf\b)|\bNone\b", document) is None
    assert len(page.attribute("id")) == len(set(page.attribute("id")))


@given(comparison=comparisons())
@settings(deadline=None, max_examples=40)
def test_every_drawing_is_xml_with_a_title_and_a_description(comparison: Comparison) -> None:
    """Each SVG parses as XML; whoever cannot see it hears what it shows and its figures."""
    document = comparison_html(comparison)
    for each in drawings(document):
        if each.get("aria-hidden") == "true":
            continue
        assert each.get("role") == "img"
        named = {part.get("id"): part.text for part in each if part.tag in {"title", "desc"}}
        assert each.get("aria-labelledby") == " ".join(key or "" for key in named)
        assert all(named.values())


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    """No script, no reference but to the page itself, no import, and a policy that forbids them."""
    document = comparison_html(sample(["one", "two"]))
    page = Page(document)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag.name for tag in page.tags
    }
    attributes = {key for tag in page.tags for key, _ in tag.attributes}
    assert not {"src", "srcset", "data", "action", "poster", "background", "xlink:href"} & attributes
    assert not [name for name in attributes if name.startswith("on")]
    assert set(page.attribute("href")) == {"#notes"}
    assert "notes" in page.attribute("id")
    assert "://" not in document
    style = "".join(data for element, data in page.texts if element == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.attribute("content")


@given(comparison=comparisons())
@settings(deadline=None, max_examples=20)
def test_equal_comparisons_give_equal_bytes(comparison: Comparison) -> None:
    """Nothing but the comparison gets into the report."""
    assert comparison_html(comparison) == comparison_html(comparison)


@pytest.mark.parametrize(
    ("workers", "moments", "most_bytes"), [(16, 2_000, 300_000), (64, 10_000, 1_000_000)]
)
def test_a_long_run_of_many_workers_stays_small(workers: int, moments: int, most_bytes: int) -> None:
    """Three policies on a large fleet make a file that can be mailed."""
    document = comparison_html(sample(["one", "two", "three"], workers=workers, moments=moments))
    assert len(document.encode()) <= most_bytes
    assert all(len(line) <= 200 for each in drawings(document) for line in polylines(each))


def test_a_fleet_of_any_size_stays_bounded() -> None:
    """Beyond 64 workers the page says how many of them it draws one by one."""
    document = comparison_html(sample(["one"], workers=200))
    drawn = [each for each in drawings(document) if (each.get("aria-labelledby") or "").startswith("kv-w")]
    assert len(drawn) == 64
    assert "The first 64 of 200 workers." in document


@given(found=distributions)
@settings(deadline=None, max_examples=100)
def test_cumulative_curves_only_rise(found: Distribution) -> None:
    """From left to right a cumulative curve never falls, and stays inside its drawing."""
    document = comparison_html(_with_ttft(found))
    if not found.count:
        assert "ttft-t" not in Page(document).attribute("id")
        return
    element = drawing(document, "ttft")
    _, _, width, height = (float(number) for number in (element.get("viewBox") or "").split())
    for line in polylines(element):
        across = [x for x, _ in line]
        down = [y for _, y in line]
        assert sorted(across) == across
        assert sorted(down, reverse=True) == down
        assert all(0 <= x <= width for x in across)
        assert all(0 <= y <= height for y in down)


def test_hits_and_misses_share_their_axes() -> None:
    """A time lies at the same place in the drawing of hits and in that of misses."""
    document = comparison_html(sample(["one", "two"]))
    assert polylines(drawing(document, "hits")) == polylines(drawing(document, "misses"))


def test_the_foot_says_how_to_repeat_the_run() -> None:
    """Command, versions, trace, digest and seed stand in the footer."""
    document = comparison_html(sample(["one"], text="SAID"))
    footer = document[document.index("<footer>") :]
    assert footer.count("SAID") == 5
    assert "<dt>Seed</dt><dd>1</dd>" in footer


@pytest.mark.parametrize("interrupted", [True, False])
def test_an_interrupted_run_says_so_at_the_top(*, interrupted: bool) -> None:
    """The warning stands above the answers where the run was stopped early, and nowhere otherwise."""
    whole = sample(["one"])
    document = comparison_html(_changed(whole, interrupted=interrupted))
    header = document[document.index("<header>") : document.index("</header>")]
    assert interrupted == ("Interrupted" in header)


def _changed(comparison: Comparison, *, interrupted: bool) -> Comparison:
    fields = {name: getattr(comparison, name) for name in Comparison.__slots__}
    return Comparison(**{**fields, "interrupted": interrupted})


def _with_ttft(found: Distribution) -> Comparison:
    comparison = sample(["one"])
    run = comparison.runs[0]
    fields = {name: getattr(run, name) for name in type(run).__slots__}
    comparison.runs[0] = type(run)(**{**fields, "ttft": found})
    return comparison
