"""The scorecard as plain data: every row's figures, the verdict that follows from them, and their sum.

Nothing here says that we agree with vLLM unless something was compared and nothing disagreed.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from understudy import VLLM_VERSION, __version__
from understudy.verify.behaviours import BEHAVIOURS, Behaviour
from understudy.verify.not_emulated import NOT_EMULATED
from understudy.verify.tally import Tallies

EvidenceKind = Literal["recorded", "computed", "live"]
"""From vLLM, shipped with the package; by a search or formula, on the spot; from vLLM, running beside us."""

MAX_EXAMPLES = 3


class Counts(msgspec.Struct, frozen=True):
    """How often was compared, and how often both sides were not equal."""

    comparisons: int
    disagreements: int


class ScoreRow(msgspec.Struct, frozen=True):
    """One behaviour. `evidence` has the counts of each kind; `examples` describe some disagreements."""

    key: str
    behaviour: str
    vllm: str
    compared: str
    yardstick: str
    comparisons: int
    disagreements: int
    verdict: str
    evidence: dict[str, Counts]
    examples: list[str]


class LimitRow(msgspec.Struct, frozen=True):
    """Something that is not emulated, and what that means for a user."""

    what: str
    means: str


class LiveRun(msgspec.Struct, frozen=True):
    """What the live evidence comes from. `saved` is the file that reproduces the disagreement that ended the run."""

    vllm: str
    cases: dict[str, int]
    iterations: int
    saved: str | None


class Scorecard(msgspec.Struct, frozen=True):
    """What `fidelity.json` holds. `agreement` is 1 - disagreements / comparisons over all rows, None without any."""

    understudy: str
    vllm: str
    seed: int
    comparisons: int
    disagreements: int
    agreement: float | None
    rows_not_compared: int
    live: LiveRun | None
    rows: list[ScoreRow]
    not_emulated: list[LimitRow]


def verdict(counts: Counts) -> str:
    """Return what the figures say, and they alone."""
    if not counts.comparisons:
        return "not compared"
    if not counts.disagreements:
        return "agrees"
    return f"{counts.disagreements:,} disagreement{'s'[: counts.disagreements != 1]}"


def agreement_percent(counts: Counts) -> str:
    """Return the agreement in per cent, rounded down, so that 100 % means that nothing disagreed."""
    if not counts.comparisons:
        return "no figure"
    if not counts.disagreements:
        return "100 %"
    agreeing = counts.comparisons - counts.disagreements
    return f"{agreeing * 10**6 // counts.comparisons / 10**4:.4f} %"


def total(rows: Sequence[ScoreRow]) -> Counts:
    """Return the sum over some rows."""
    return Counts(sum(row.comparisons for row in rows), sum(row.disagreements for row in rows))


def make_scorecard(
    evidence: Mapping[EvidenceKind, Tallies], *, seed: int, live: LiveRun | None = None
) -> Scorecard:
    """Return the scorecard of all evidence; every tally must belong to a row."""
    known = {behaviour.key for behaviour in BEHAVIOURS}
    for tallies in evidence.values():
        assert tallies.by_key().keys() <= known, f"no row for {tallies.by_key().keys() - known}"
    rows = [_row(behaviour, evidence) for behaviour in BEHAVIOURS]
    counts = total(rows)
    return Scorecard(
        understudy=__version__,
        vllm=VLLM_VERSION,
        seed=seed,
        comparisons=counts.comparisons,
        disagreements=counts.disagreements,
        agreement=1 - counts.disagreements / counts.comparisons if counts.comparisons else None,
        rows_not_compared=sum(not row.comparisons for row in rows),
        live=live,
        rows=rows,
        not_emulated=[LimitRow(limit.what, limit.means) for limit in NOT_EMULATED],
    )


def _row(behaviour: Behaviour, evidence: Mapping[EvidenceKind, Tallies]) -> ScoreRow:
    tallies = {
        kind: by_key[behaviour.key]
        for kind, by_key in ((kind, tallies.by_key()) for kind, tallies in evidence.items())
        if behaviour.key in by_key
    }
    counts = Counts(
        sum(tally.comparisons for tally in tallies.values()),
        sum(tally.disagreements for tally in tallies.values()),
    )
    examples = [example for tally in tallies.values() for example in tally.examples]
    return ScoreRow(
        key=behaviour.key,
        behaviour=behaviour.title,
        vllm=behaviour.vllm,
        compared=behaviour.compared,
        yardstick=behaviour.yardstick,
        comparisons=counts.comparisons,
        disagreements=counts.disagreements,
        verdict=verdict(counts),
        evidence={kind: Counts(tally.comparisons, tally.disagreements) for kind, tally in tallies.items()},
        examples=examples[:MAX_EXAMPLES],
    )
