"""Recorded evidence catches every deliberate fault of the engine."""

import subprocess
import sys

import pytest
from tests.verify.mutations import MUTATIONS


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=[mutation.breaks for mutation in MUTATIONS])
def test_the_fault_is_caught(number: int) -> None:
    """Some recorded trial disagrees with an engine that has this fault."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.verify.mutant", str(number)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout, "the fault went unnoticed"


def test_there_are_enough_and_no_two_alike() -> None:
    """Each breaks another rule, or another place of one."""
    assert len(MUTATIONS) >= 25
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in MUTATIONS}) == len(MUTATIONS)
