"""Live evidence, with stand-ins for vLLM: agreement, disagreement, and judges that are no good."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.verify.stand_in_judge import is_disputed, stand_in_python

from understudy.errors import InputError, OutputError
from understudy.verify.cases import Case, random_case
from understudy.verify.judge_process import JudgeProcess
from understudy.verify.live import live, reproduce

COUNT = 12


def test_agreement_counts_every_case(tmp_path: Path) -> None:
    """All cases of a seed are run, in both modes, and progress is told of each."""
    told: list[None] = []
    result = live(
        1, COUNT, stand_in_python(tmp_path, "faithful"), folder=tmp_path, progress=lambda: told.append(None)
    )
    assert result.disagreement is None
    assert result.saved is None
    assert sum(result.cases.values()) == COUNT == len(told)
    assert min(result.cases.values()) > 0
    tallies = result.tallies.by_key()
    assert tallies["batching"].comparisons > result.iterations > 0
    assert sum(tally.disagreements for tally in tallies.values()) == 0
    assert not list(tmp_path.glob("*.json"))


def test_a_disagreement_is_shrunk_saved_and_reproduced(tmp_path: Path) -> None:
    """No request and no oddity is left that the disagreement does not need; the file shows it again."""
    python = stand_in_python(tmp_path, "disagreeing")
    result = live(2, 100, python, folder=tmp_path)
    assert result.saved == tmp_path / "understudy-disagreement-2.json"
    found = result.disagreement
    assert found is not None
    assert sum(tally.disagreements for tally in result.tallies.by_key().values()) > 0
    assert is_disputed(found.case)
    assert len(found.case.workload) <= 2
    assert sum(len(line["prompt"]) + line["max_tokens"] for line in found.case.workload) <= 4
    assert not any("abort_steps" in line or "stop_token_ids" in line for line in found.case.workload)
    lines = list(found.lines())
    assert lines[0].startswith(f"iteration {found.iteration} of a case of {len(found.case.workload)} request")
    assert [line.split()[0] for line in lines[1:]] == ["usage:", "vLLM", "understudy"]
    assert "2.0" in lines[2]

    again = reproduce(result.saved, python)
    assert again.disagreement == found
    assert reproduce(result.saved, stand_in_python(tmp_path, "faithful")).disagreement is None


def test_a_disagreement_that_cannot_be_saved(tmp_path: Path) -> None:
    """It is told in one line."""
    python = stand_in_python(tmp_path, "disagreeing")
    with pytest.raises(OutputError, match=r"cannot write .*nowhere"):
        live(2, 100, python, folder=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("dying", "broke down while a case: out of luck .exit status 1"),
        ("silent", "hangs: a case took more than 1 s"),
        ("old", "has vLLM 0.1, and understudy stands in for vLLM .*`make vllm-env`"),
        ("garbled", "said what is no trial"),
    ],
)
def test_a_judge_that_is_no_good_is_an_error(tmp_path: Path, mode: str, told: str) -> None:
    """It never counts as agreement."""
    with (
        pytest.raises(InputError, match=told),
        JudgeProcess(
            stand_in_python(tmp_path, mode), case_seconds=1.0 if mode == "silent" else 60.0
        ) as judge,
    ):
        judge.trial(random_case(0, num_requests=2))


def test_a_missing_environment_is_named() -> None:
    """The message says what is missing and how to get it."""
    with pytest.raises(
        InputError, match=r"vLLM's environment is missing: there is no .*`make vllm-env` builds it"
    ):
        live(0, 1, Path("no/such/python"))


def test_an_environment_that_cannot_run(tmp_path: Path) -> None:
    """So does that of a file that is no program."""
    path = tmp_path / "python"
    path.write_text("no program", encoding="utf-8")
    with pytest.raises(InputError, match=r"vLLM's environment cannot be used: .*`make vllm-env`"):
        live(0, 1, path)


def test_cases_that_fail_to_come_are_our_error(tmp_path: Path) -> None:
    """What goes wrong while cases are drawn is raised, not taken for their end."""

    def cases() -> Iterator[Case]:
        yield random_case(0, num_requests=2)
        raise ZeroDivisionError

    with JudgeProcess(stand_in_python(tmp_path, "faithful")) as judge, pytest.raises(ZeroDivisionError):
        list(judge.trials(cases()))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"case": 1}', b"\\xff"])
def test_a_file_that_holds_no_disagreement(tmp_path: Path, content: bytes) -> None:
    """One line names it."""
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"wrong\.json is not a saved disagreement"):
        reproduce(path)


def test_a_case_survives_its_journey() -> None:
    """A case that was written as JSON and read again is the same."""
    case = random_case(3)
    assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case
