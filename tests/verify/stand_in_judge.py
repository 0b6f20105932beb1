"""Answers like `judge.py`, from our own scheduler; a mode says how it goes wrong. For tests of the live side without vLLM."""

import sys
import time
from pathlib import Path

import msgspec

from understudy import VLLM_VERSION
from understudy.verify.cases import Case
from understudy.verify.trial import Trial, run_case

MODES = ("faithful", "disagreeing", "dying", "silent", "old", "garbled")
ROOT = Path(__file__).parents[2]


def stand_in_python(folder: Path, mode: str) -> Path:
    """Write what can stand where vLLM's Python stands, and return its path."""
    assert mode in MODES
    path = folder / f"{mode}-python"
    path.write_text(
        f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m tests.verify.stand_in_judge {mode}\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def is_disputed(case: Case) -> bool:
    """Whether the disagreeing judge sees this case in another way: somebody has a salt, and somebody an urgency."""
    return any("cache_salt" in line for line in case.workload) and any(
        line["priority"] for line in case.workload
    )


def _disputed(case: Case, trial: Trial) -> Trial:
    if is_disputed(case):
        trial.log[-1]["usage"] = 2.0
    return trial


def main(mode: str) -> None:
    """Greet and answer."""
    print(f'{{"vllm": "{"0.1" if mode == "old" else VLLM_VERSION}"}}', flush=True)
    for line in sys.stdin:
        case = msgspec.json.decode(line, type=Case)
        if mode == "dying":
            sys.exit("out of luck")
        if mode == "silent":
            time.sleep(600)
        trial = run_case(case)
        if mode == "disagreeing":
            trial = _disputed(case, trial)
        print("no JSON" if mode == "garbled" else msgspec.json.encode(trial).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
