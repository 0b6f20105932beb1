"""Loading a user's own policy from a file."""

from pathlib import Path

import pytest
from tests.routing.fleets import SizeOnlyFleet, fresh_memory, request_of

from understudy.cli.user_policy import load_user_policy
from understudy.errors import PolicyError, UsageError
from understudy.routing import decide

GOOD = """
from dataclasses import dataclass
from understudy.routing import Decision

@dataclass
class Settings:
    worker: "int" = 2

def choose(request, fleet, memory):
    return Decision(Settings().worker, 1, "mine")

def fails(request, fleet, memory):
    return 1 // 0
"""


def write(folder: Path, text: str) -> str:
    """Write a policy file and return its path."""
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_policy_from_a_file_decides(tmp_path: Path) -> None:
    """A function in a file, with dataclasses and imports of ours beside it, serves as a policy."""
    choose = load_user_policy(write(tmp_path, GOOD) + ":choose")
    assert decide(choose, "mine", request_of(), SizeOnlyFleet(3), fresh_memory()) == (2, 1, "mine")


def test_a_failing_policy_is_told_with_the_line_of_its_file(tmp_path: Path) -> None:
    """The line told is that of the file that the user wrote."""
    choose = load_user_policy(write(tmp_path, GOOD) + ":fails")
    line = GOOD.splitlines().index("    return 1 // 0") + 1
    with pytest.raises(PolicyError, match=f"ZeroDivisionError at line {line}: "):
        decide(choose, "mine", request_of(), SizeOnlyFleet(3), fresh_memory())


def test_two_files_of_the_same_name_do_not_mix(tmp_path: Path) -> None:
    """Policies from files that differ only in their folder stay apart."""
    answers = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write(folder, f"WORKER = {number}\ndef choose(request, fleet, memory):\n    return WORKER\n")
        answers.append(load_user_policy(f"{path}:choose"))
    workers = [
        decide(choose, "mine", request_of(), SizeOnlyFleet(3), fresh_memory()).worker for choose in answers
    ]
    assert workers == [0, 1]


@pytest.mark.parametrize(
    "reference", ["mine.py", "mine.py:", ":choose", "mine:choose", "mine.txt:choose", ""]
)
def test_a_malformed_reference_is_refused(reference: str) -> None:
    """Only FILE.py:FUNCTION names a policy in a file."""
    with pytest.raises(UsageError, match=r"is not of the form FILE\.py:FUNCTION"):
        load_user_policy(reference)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or a folder, is named."""
    (tmp_path / "folder.py").mkdir()
    for name in ("absent.py", "folder.py"):
        with pytest.raises(UsageError, match=f"{name}' does not exist or is no file"):
            load_user_policy(f"{tmp_path / name}:choose")


def test_a_missing_function_is_refused_with_those_there(tmp_path: Path) -> None:
    """A function that the file lacks is told beside those that it has, without what it merely imported."""
    with pytest.raises(UsageError, match=r"has no function 'chose'; it defines: Settings, choose, fails$"):
        load_user_policy(write(tmp_path, GOOD) + ":chose")
    with pytest.raises(UsageError, match=r"has no function 'x'; it defines: nothing$"):
        load_user_policy(write(tmp_path, "x = 1\n") + ":x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "import random\nimport no_such_module\n",
            "ModuleNotFoundError at line 2: No module named 'no_such_module'",
        ),
        ("x = 1\ny = (\n", "SyntaxError at line 2: '(' was never closed"),
        ("\n\nraise ValueError('first\\nsecond')\n", "ValueError at line 3: first second"),
        ("import sys\nsys.exit(0)\n", "SystemExit at line 2: 0"),
        ("x = '\0'\n", "source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_cannot_be_run_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    """Whatever running the file raises is told with its type, line and message, on one line."""
    with pytest.raises(UsageError) as caught:
        load_user_policy(write(tmp_path, text) + ":choose")
    assert told in str(caught.value)
    assert "cannot be run" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", ["", "request", "request, fleet, memory, more", "*, request, fleet, memory"]
)
def test_a_function_with_other_arguments_is_refused(tmp_path: Path, arguments: str) -> None:
    """What cannot be called with a request, a fleet and a memory is refused before anything runs."""
    with pytest.raises(UsageError, match=r"must accept \(request, fleet, memory\): "):
        load_user_policy(write(tmp_path, f"def choose({arguments}):\n    return 0\n") + ":choose")
