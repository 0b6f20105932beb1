"""Fresh random cases against vLLM itself; a disagreement is made small and saved, so that it can be run again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from understudy import VLLM_VERSION, __version__
from understudy.errors import InputError, OutputError
from understudy.verify.cases import Case, Json, random_case
from understudy.verify.check import check_case
from understudy.verify.judge_process import DEFAULT_VLLM_PYTHON, JudgeProcess
from understudy.verify.shrink import shrunk
from understudy.verify.step_evidence import Difference
from understudy.verify.tally import Tallies

MAX_SHRINKING_TRIES = 1_000


class Disagreement(msgspec.Struct):
    """A case on which the two sides differ, and both sides of the first differing iteration, hashes spelled out.

    `iteration` is None where all iterations are the same and the engine in virtual time differs.
    """

    understudy: str
    vllm: str
    seed: int
    case: Case
    iteration: int | None
    theirs: Json | None
    ours: Json | None

    def lines(self) -> Iterator[str]:
        """Say in lines of text what differs."""
        iterations = "the whole" if self.iteration is None else f"iteration {self.iteration}"
        requests = len(self.case.workload)
        yield f"{iterations} of a case of {requests} request{'s'[: requests != 1]} is not the same"
        theirs, ours = self.theirs or {}, self.ours or {}
        for name in {**theirs, **ours}:
            if theirs.get(name) != ours.get(name):
                yield f"  {name}:"
                yield f"    vLLM       {theirs.get(name, 'nothing')}"
                yield f"    understudy {ours.get(name, 'nothing')}"


@dataclass(slots=True)
class LiveResult:
    """What became of a live run: cases by mode, iterations of vLLM's scheduler, and the disagreement that ended it."""

    seed: int
    vllm: str
    cases: dict[str, int] = field(default_factory=lambda: {"sync": 0, "async": 0})
    iterations: int = 0
    tallies: Tallies = field(default_factory=Tallies)
    disagreement: Disagreement | None = None
    saved: Path | None = None


def live(
    seed: int,
    count: int,
    vllm_python: Path = DEFAULT_VLLM_PYTHON,
    *,
    folder: Path = Path(),
    progress: Callable[[], None] = lambda: None,
) -> LiveResult:
    """Compare `count` random cases of both modes with vLLM, up to the first disagreement.

    That is shrunk and saved in `folder`. `progress` is called after each case. Raises InputError when vLLM's
    environment is missing or its side breaks down.
    """
    with JudgeProcess(vllm_python) as judge:
        result = LiveResult(seed, judge.vllm)
        cases = (random_case(f"{seed}-{number}") for number in range(count))
        for number, (case, theirs) in enumerate(judge.trials(cases)):
            difference = check_case(case, theirs, result.tallies, f"case {seed}-{number}")
            result.cases["async" if case.config["async_scheduling"] else "sync"] += 1
            result.iterations += len(theirs.log)
            progress()
            if difference is not None:
                break
        else:
            return result
    result.disagreement = _shrunk_disagreement(seed, case, difference, vllm_python)
    result.saved = folder / f"understudy-disagreement-{seed}.json"
    _save(result.disagreement, result.saved)
    return result


def reproduce(path: Path, vllm_python: Path = DEFAULT_VLLM_PYTHON) -> LiveResult:
    """Run the case of a saved disagreement again on both sides; raises InputError for a file that holds none."""
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=Disagreement)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path} is not a saved disagreement: {error}") from error
    with JudgeProcess(vllm_python) as judge:
        result = LiveResult(saved.seed, judge.vllm)
        theirs = judge.trial(saved.case)
    result.iterations = len(theirs.log)
    result.cases["async" if saved.case.config["async_scheduling"] else "sync"] += 1
    difference = check_case(saved.case, theirs, result.tallies, str(path))
    if difference is not None:
        result.disagreement = _disagreement(saved.seed, saved.case, difference)
    return result


def _shrunk_disagreement(seed: int, case: Case, difference: Difference, vllm_python: Path) -> Disagreement:
    found = _disagreement(seed, case, difference)

    def differs(smaller: Case) -> bool:
        nonlocal found
        difference = check_case(smaller, judge.trial(smaller), Tallies(), "")
        if difference is not None:
            found = _disagreement(seed, smaller, difference)
        return difference is not None

    with JudgeProcess(vllm_python) as judge:
        for _ in shrunk(case, differs, MAX_SHRINKING_TRIES):
            pass
    return found


def _disagreement(seed: int, case: Case, difference: Difference) -> Disagreement:
    return Disagreement(
        __version__, VLLM_VERSION, seed, case, difference.iteration, difference.theirs, difference.ours
    )


def _save(disagreement: Disagreement, path: Path) -> None:
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(disagreement), indent=1))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
