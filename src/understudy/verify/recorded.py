"""Recorded trials: random cases and what vLLM's own scheduler made of them, shipped with the package."""

import gzip
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import msgspec

from understudy import VLLM_VERSION
from understudy.errors import InputError
from understudy.verify.cases import Case
from understudy.verify.check import check_case
from understudy.verify.judge_process import JudgeProcess
from understudy.verify.tally import Tallies
from understudy.verify.trial import Trial


class Recording(msgspec.Struct):
    """A case and vLLM's trial of it; `vllm` is the version that decided."""

    vllm: str
    case: Case
    trial: Trial


def recordings() -> Iterator[tuple[str, Recording]]:
    """Yield all shipped recordings by name; raises InputError for one of another vLLM than we stand in for."""
    folder = files("understudy.verify") / "evidence" / "trials"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        name = file.name.removesuffix(".json.gz")
        recording = msgspec.json.decode(gzip.decompress(file.read_bytes()), type=Recording)
        if recording.vllm != VLLM_VERSION:
            raise InputError(
                f"the trial {name} is of vLLM {recording.vllm}, but understudy stands in for vLLM {VLLM_VERSION}: "
                "`make record-trials` records all again"
            )
        yield name, recording


def recorded_trials() -> Tallies:
    """Run our side of every recorded case and count all comparisons."""
    tallies = Tallies()
    for name, recording in recordings():
        check_case(recording.case, recording.trial, tallies, name)
    return tallies


def record(cases: dict[str, Case], vllm_python: Path, folder: Path) -> None:
    """Write what vLLM makes of some cases, each into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with JudgeProcess(vllm_python) as judge:
        for name, (case, trial) in zip(cases, judge.trials(cases.values()), strict=True):
            data = msgspec.json.encode(Recording(judge.vllm, case, trial))
            (folder / f"{name}.json.gz").write_bytes(gzip.compress(data, mtime=0))
