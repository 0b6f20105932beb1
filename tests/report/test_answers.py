"""The answers: each policy against the right baseline, in the right direction."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.comparisons import distribution, runs, sample

from understudy.fleet.summary import RunSummary
from understudy.report.answers import achievement, answers, baseline_of, interruption, number_of_runs

NAMES = st.lists(st.sampled_from(["round-robin", "prefix", "random"]), min_size=1, max_size=3, unique=True)


def run_with(policy: str, ttft_seconds: list[float]) -> RunSummary:
    """Return a run with these times to the first token, from which no request is missing."""
    run = sample([policy]).runs[0]
    complete = replace(run, unfinished=0, refused=replace(run.refused, prompt_longer_than_context=0))
    return replace(complete, ttft=distribution(ttft_seconds))


@given(NAMES)
def test_the_baseline_is_round_robin_or_else_the_first(names: list[str]) -> None:
    """Order matters only where round-robin did not run."""
    chosen = baseline_of(sample(names).runs)
    assert chosen is not None
    assert chosen.policy == ("round-robin" if "round-robin" in names else names[0])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.5, "p99 TTFT 1.50 s, 500 ms less than base"),
        (2.0, "p99 TTFT 2.00 s, the same as base"),
        (3.25, "p99 TTFT 3.25 s, 1.25 s more than base"),
    ],
)
def test_a_difference_has_its_direction(seconds: float, said: str) -> None:
    """Less is less, more is more, and equal is the same, with the unit that fits the difference."""
    answer = achievement(run_with("other", [seconds]), run_with("base", [2.0])).replace("\u00a0", " ")
    assert answer == f"41.0% of prompt tokens from cache; {said}"


def test_the_baseline_is_not_measured_against_itself() -> None:
    """The baseline's own answer names no other policy."""
    base = run_with("base", [2.0])
    assert "than" not in achievement(base, base)
    assert "same" not in achievement(base, base)


@given(st.lists(runs(), min_size=1, max_size=3))
def test_replays_are_no_policies(several: list[RunSummary]) -> None:
    """Where a replay is among them, runs are counted instead of policies."""
    are_policies = all(run.kind == "simulation" for run in several)
    assert number_of_runs(several).startswith(f"{len(several)} ")
    assert ("polic" in number_of_runs(several)) == are_policies


@given(runs(), runs())
def test_requests_without_an_answer_are_told(run: RunSummary, baseline: RunSummary) -> None:
    """Refused, failed and unfinished requests are in the answer exactly where there are any."""
    answer = achievement(run, baseline)
    assert ("refused" in answer) == (run.refused.prompt_longer_than_context > 0)
    assert ("failed" in answer) == bool(run.failed)
    assert ("unfinished" in answer) == (run.unfinished > 0)
    assert ("no request finished" in answer) == (run.ttft.count == 0)


@given(names=NAMES, interrupted=st.booleans())
def test_a_run_that_was_stopped_is_neither_measured_nor_a_measure(
    *, names: list[str], interrupted: bool
) -> None:
    """Only whole runs are compared with one another, and the reader learns which run is not whole."""
    comparison = replace(sample(names), interrupted=interrupted)
    compared = ["TTFT" in answer and " than " in answer for answer in answers(comparison)]
    whole = names[:-1] if interrupted else names
    assert sum(compared) == max(len(whole) - 1, 0)
    assert not (interrupted and compared[-1])
    assert (interruption(comparison) is not None) == interrupted
    assert not interrupted or f"the run of {names[-1]} was stopped" in (interruption(comparison) or "")
