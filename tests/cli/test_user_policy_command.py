"""A user's own policy on the command line."""

import json
from pathlib import Path

import pytest
from tests.cli.processes import NUM_REQUESTS, everything_in, understudy

OWN = """
def last(request, fleet, memory):
    return len(fleet) - 1

def nowhere(request, fleet, memory):
    return len(fleet)

def fails(request, fleet, memory):
    return {}[request.request_id]

def talks(request, fleet, memory):
    print("looking at", request.request_id)
    return 0

def takes_too_little(request):
    return 0
"""


@pytest.fixture
def own(folder: Path) -> Path:
    """Return a folder with a trace, good and bad policies and files that are none."""
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    (folder / "wrong.py").write_text("def choose(request:\n", encoding="utf-8")
    (folder / "raises.py").write_text("\n\nraise OSError('no luck')\n", encoding="utf-8")
    return folder


def test_simulate_asks_the_policy(own: Path) -> None:
    """Every request goes where the function says."""
    result = understudy("simulate", "trace.jsonl", "--policy", "own.py:last", "--json", cwd=own)
    run = json.loads(result.stdout)["runs"][0]
    assert run["policy"] == "own.py:last"
    assert [worker["requests"] for worker in run["workers"]] == [0, 0, 0, NUM_REQUESTS]


def test_compare_runs_it_beside_built_in_ones(own: Path) -> None:
    """Its neighbours come out as they do without it."""
    policies = ["round-robin", "own.py:last", "prefix"]
    result = understudy("compare", "trace.jsonl", "--policy", ",".join(policies), "--json", cwd=own)
    runs = {run["policy"]: run for run in json.loads(result.stdout)["runs"]}
    assert list(runs) == policies
    alone = understudy("compare", "trace.jsonl", "--policy", "round-robin,prefix", "--json", cwd=own)
    assert json.loads(alone.stdout)["runs"] == [runs["round-robin"], runs["prefix"]]


def test_what_a_policy_prints_stays_out_of_the_json(own: Path) -> None:
    """Standard output is the document alone; what the policy says goes to standard error."""
    result = understudy("simulate", "trace.jsonl", "--policy", "own.py:talks", "--json", cwd=own)
    assert json.loads(result.stdout)["runs"][0]["finished"] == NUM_REQUESTS
    assert result.stderr.splitlines() == [f"looking at {index}" for index in range(NUM_REQUESTS)]


@pytest.mark.parametrize(
    ("policy", "status", "told"),
    [
        ("own.py:fails", 1, ("own.py:fails", "request '0'", "KeyError at line 9")),
        ("own.py:nowhere", 1, ("own.py:nowhere", "request '0'", "a worker, 0 to 3")),
        ("own.py:takes_too_little", 2, ("must accept (request, fleet, memory)",)),
        ("own.py:missing", 2, ("no function 'missing'", "last, nowhere, fails")),
        ("own.py", 2, ("FILE.py:FUNCTION",)),
        ("own.py:", 2, ("FILE.py:FUNCTION",)),
        ("none.py:choose", 2, ("'none.py' does not exist",)),
        ("wrong.py:choose", 2, ("'wrong.py'", "SyntaxError at line 1")),
        ("raises.py:choose", 2, ("'raises.py'", "OSError at line 3", "no luck")),
    ],
)
def test_a_bad_policy_ends_the_run_with_one_line(
    own: Path, policy: str, status: int, told: tuple[str, ...]
) -> None:
    """The line says which policy and what is wrong; no results, not even in part."""
    before = everything_in(own)
    result = understudy("compare", "trace.jsonl", "--policy", f"round-robin,{policy}", cwd=own)
    assert result.status == status
    assert all(part in result.error for part in told), result.error
    assert everything_in(own) == before
