"""The same input gives the same bytes, whatever the interpreter's own hashes are."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEED = 204
"""A case with priorities and preemptions."""


def _printed(hash_seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance.print_step_log", str(SEED)],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        text=True,
    ).stdout


def test_step_log_does_not_depend_on_pythonhashseed() -> None:
    """Requests are preempted and resumed by priority, alike in every process."""
    printed = _printed("1")
    assert printed == _printed("4242")
    records = [json.loads(line) for line in printed.splitlines()]
    assert sum(len(record["preempted"]) for record in records) > 10
