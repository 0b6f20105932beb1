"""Our side of a case, by the scheduler and by the engine, against vLLM's trial of it."""

from understudy.verify.cases import Case
from understudy.verify.engine_trial import compare_engine, suits_engine
from understudy.verify.step_evidence import Difference, compare_trials
from understudy.verify.tally import Tallies
from understudy.verify.trial import Trial, run_case, without_events, without_tokens


def check_case(case: Case, theirs: Trial, tallies: Tallies, where: str) -> Difference | None:
    """Run a case, count all comparisons with vLLM's trial, and return the first difference, if there is one."""
    difference = compare_trials(case, theirs, run_case(case), tallies, where)
    if difference is None and case.resets:
        ours = run_case(case, record_events=False)
        where_else = f"{where}, events off"
        difference = compare_trials(case, without_events(theirs), ours, tallies, where_else)
    if difference is None and case.segment_tokens is not None:
        ours = without_tokens(run_case(case, hide_tokens=True))
        where_else = f"{where}, tokens hidden"
        theirs_hidden = without_tokens(theirs)
        difference = compare_trials(case, theirs_hidden, ours, tallies, where_else, tokens_hidden=True)
    if difference is None and suits_engine(case):
        difference = compare_engine(case, theirs, tallies, where)
    return difference
