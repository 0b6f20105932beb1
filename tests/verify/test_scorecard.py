"""The scorecard says what its figures say: nothing agrees unless it was compared and nothing disagreed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import VLLM_VERSION, __version__
from understudy.verify.behaviours import BEHAVIOURS
from understudy.verify.not_emulated import NOT_EMULATED
from understudy.verify.scorecard import Counts, Scorecard, agreement_percent, make_scorecard, verdict
from understudy.verify.scorecard_text import markdown
from understudy.verify.tally import Tallies

KEYS = [behaviour.key for behaviour in BEHAVIOURS]

outcomes = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=60)
"""Comparisons: of which behaviour, and whether both sides are equal."""


def tallies_of(drawn: list[tuple[str, bool]]) -> Tallies:
    """Return the tallies of some comparisons."""
    tallies = Tallies()
    for number, (key, equal) in enumerate(drawn):
        tallies.compare(key, f"comparison {number}", number, number if equal else -1)
    return tallies


@given(recorded=outcomes, computed=outcomes, live=st.none() | outcomes)
def test_figures_are_sums_and_verdicts_follow_from_them(
    recorded: list[tuple[str, bool]], computed: list[tuple[str, bool]], live: list[tuple[str, bool]] | None
) -> None:
    """Of every row, of all rows, and of each kind of evidence."""
    drawn = {"recorded": recorded, "computed": computed} | ({} if live is None else {"live": live})
    card = make_scorecard({kind: tallies_of(of) for kind, of in drawn.items()}, seed=3)  # type: ignore[misc]  # kinds are literals
    everything = [*recorded, *computed, *(live or ())]
    for row in card.rows:
        mine = [equal for key, equal in everything if key == row.key]
        assert (row.comparisons, row.disagreements) == (len(mine), mine.count(False))
        assert (row.verdict == "not compared") == (not mine)
        assert (row.verdict == "agrees") == (bool(mine) and all(mine))
        assert bool(row.examples) == (not all(mine))
        for kind, counts in row.evidence.items():
            of_kind = [equal for key, equal in drawn[kind] if key == row.key]
            assert counts == Counts(len(of_kind), of_kind.count(False))
    assert card.comparisons == len(everything)
    assert card.disagreements == [equal for _, equal in everything].count(False)
    assert card.rows_not_compared == len(KEYS) - len({key for key, _ in everything})
    if everything:
        assert card.agreement == pytest.approx(float(1 - Fraction(card.disagreements, card.comparisons)))
    else:
        assert card.agreement is None


@given(comparisons=st.integers(1, 10**12), data=st.data())
def test_a_hundred_per_cent_means_no_disagreement(comparisons: int, data: st.DataObject) -> None:
    """However rare disagreements are, they are not rounded away, and no agreement is made larger than it is."""
    disagreements = data.draw(st.integers(0, comparisons) | st.integers(0, min(3, comparisons)))
    text = agreement_percent(Counts(comparisons, disagreements))
    assert (text == "100 %") == (disagreements == 0)
    exact = 100 * (1 - Fraction(disagreements, comparisons))
    shown = Fraction(text.removesuffix(" %"))
    assert shown <= exact < shown + Fraction(1, 10_000) or text == "100 %"


def test_words_of_the_verdict() -> None:
    """Exactly three kinds; without comparisons there is no figure either."""
    assert verdict(Counts(0, 0)) == "not compared"
    assert verdict(Counts(5, 0)) == "agrees"
    assert verdict(Counts(5, 1)) == "1 disagreement"
    assert verdict(Counts(5000, 2000)) == "2,000 disagreements"
    assert agreement_percent(Counts(0, 0)) == "no figure"


def test_a_comparison_without_a_row_is_not_swallowed() -> None:
    """Whoever counts under a new key has to add its row."""
    with pytest.raises(AssertionError, match="telepathy"):
        make_scorecard({"recorded": tallies_of([("telepathy", True)])}, seed=0)


def card_with(*comparisons: tuple[str, bool]) -> Scorecard:
    """Return the scorecard of some recorded comparisons."""
    return make_scorecard({"recorded": tallies_of(list(comparisons))}, seed=0)


def test_the_document_holds_every_row_and_every_limit() -> None:
    """With both versions, each row's words and figures, and what is not emulated."""
    card = card_with(("paging", True), ("paging", False), ("batching", True))
    text = markdown(card)
    assert f"Understudy {__version__} against vLLM {VLLM_VERSION}." in text
    for row in card.rows:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row.behaviour} |"))
        assert line == (
            f"| {row.behaviour} | {row.vllm} | {row.compared} | {row.comparisons} | {row.disagreements} | {row.verdict} |"
        )
    for limit in NOT_EMULATED:
        assert f"| {limit.what} | {limit.means} |" in text
    assert "Overall: 66.6666 % agreement; 1 of 3 comparisons disagree, in 2 of" in text
    assert "- Paging: `comparison 1: vLLM 1, understudy -1`" in text


def test_a_document_without_disagreements_has_no_heading_for_them() -> None:
    """And rows that were not compared are named."""
    text = markdown(card_with(("paging", True)))
    assert "## Disagreements" not in text
    assert f"Rows not compared: {len(KEYS) - 1} (Block-based caching, " in text


def test_rows_and_limits_are_told_once() -> None:
    """Keys, titles and limits are unique, and each says something."""
    assert len(set(KEYS)) == len(KEYS)
    assert len({behaviour.title for behaviour in BEHAVIOURS}) == len(KEYS)
    assert len({limit.what for limit in NOT_EMULATED}) == len(NOT_EMULATED)
    for words in [
        *(behaviour.vllm for behaviour in BEHAVIOURS),
        *(behaviour.compared for behaviour in BEHAVIOURS),
        *(limit.means for limit in NOT_EMULATED),
    ]:
        assert words.endswith(".")
        assert "|" not in words
