"""`understudy verify`: how close to vLLM are we, row by row, with the evidence run on the spot."""

import random
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from understudy.cli.status import FAILED, SUCCESS
from understudy.errors import OutputError, UsageError
from understudy.fleet import to_json
from understudy.verify.gather import computed_evidence, recorded_evidence
from understudy.verify.judge_process import DEFAULT_VLLM_PYTHON
from understudy.verify.live import LiveResult
from understudy.verify.live import live as run_live
from understudy.verify.live import reproduce as run_again
from understudy.verify.scorecard import EvidenceKind, LiveRun, Scorecard, make_scorecard
from understudy.verify.scorecard_text import markdown, print_scorecard
from understudy.verify.tally import Tallies

_CASES = 300
_SEEDS = 2**32


def verify(
    *,
    live: Annotated[bool, Parameter(negative="")] = False,
    seed: int | None = None,
    count: int | None = None,
    vllm_python: Path | None = None,
    reproduce: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    output: Path | None = None,
) -> int:
    """Compare understudy with vLLM and print a scorecard; exit status 0 only if nothing disagrees.

    Parameters
    ----------
    live
        Also run fresh random workloads beside vLLM itself. Needs vLLM: make vllm-env.
    seed
        Seeds what is drawn at random. [default: 0; with --live another one each time, which is printed]
    count
        Number of workloads, with --live. [default: 300]
    vllm_python
        The Python of vLLM's environment, with --live and --reproduce. [default: .venv-vllm/bin/python]
    reproduce
        Run the workload of a saved disagreement again on both sides, and nothing else.
    json
        Print the scorecard as one JSON document.
    output
        Folder for fidelity.json and fidelity.md; files of these names are replaced.
    """
    if reproduce is not None:
        _refuse("--reproduce", live=live, seed=seed, count=count, json=json, output=output)
        return _report_again(run_again(reproduce, vllm_python or DEFAULT_VLLM_PYTHON))
    if not live and count is not None:
        raise UsageError("--count goes with --live")
    if not live and vllm_python is not None:
        raise UsageError("--vllm-python goes with --live or --reproduce")
    if count is not None and count < 1:
        raise UsageError(f"--count must be at least 1, got {count}")
    if seed is None:
        seed = random.SystemRandom().randrange(_SEEDS) if live else 0
    evidence: dict[EvidenceKind, Tallies] = {}
    result: LiveResult | None = None
    if live:
        print(f"seed {seed}", file=sys.stderr)
        result = _run_live(seed, _CASES if count is None else count, vllm_python or DEFAULT_VLLM_PYTHON)
        evidence["live"] = result.tallies
    evidence["recorded"] = recorded_evidence()
    evidence["computed"] = computed_evidence(seed)
    card = make_scorecard(evidence, seed=seed, live=None if result is None else _live_run(result))
    if output is not None:
        _write(card, output)
    if json:
        sys.stdout.buffer.write(to_json(card))
    else:
        print_scorecard(card, Console())
    if result is not None and result.disagreement is not None:
        _print_disagreement(result, sys.stderr)
    return FAILED if card.disagreements else SUCCESS


def _refuse(alone: str, **others: object) -> None:
    for name, value in others.items():
        if value is not None and value is not False:
            raise UsageError(f"{alone} goes with --vllm-python only, not with --{name}")


def _run_live(seed: int, count: int, vllm_python: Path) -> LiveResult:
    with _bar(count) as advance:
        return run_live(seed, count, vllm_python, progress=advance)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Give a callback that moves a bar on a terminal, and does nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (TextColumn("workloads"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _live_run(result: LiveResult) -> LiveRun:
    return LiveRun(
        vllm=result.vllm,
        cases=result.cases,
        iterations=result.iterations,
        saved=None if result.saved is None else str(result.saved),
    )


def _report_again(result: LiveResult) -> int:
    if result.disagreement is None:
        print(f"both sides agree in all {result.iterations:,} iterations")
        return SUCCESS
    _print_disagreement(result, sys.stdout)
    return FAILED


def _print_disagreement(result: LiveResult, stream: TextIO) -> None:
    assert result.disagreement is not None
    for line in result.disagreement.lines():
        print(line, file=stream)
    if result.saved is not None:
        print(f"again with: understudy verify --reproduce {shlex.quote(str(result.saved))}", file=stream)


def _write(card: Scorecard, folder: Path) -> None:
    """Write both documents, each whole or not at all."""
    for name, data in (("fidelity.json", to_json(card)), ("fidelity.md", markdown(card).encode())):
        partial = folder / f".{name}.partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(folder / name)
        except OSError as error:
            raise OutputError(f"cannot write {folder / name}: {error.strerror}") from error
