"""`understudy verify`: exit status, documents and flags; the evidence itself is tested in tests/verify."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.in_process import output_of
from tests.cli.processes import understudy

from understudy import VLLM_VERSION, __version__
from understudy.cli import verify as command
from understudy.verify.cases import random_case
from understudy.verify.live import Disagreement, LiveResult
from understudy.verify.tally import Tallies


def tallies_of(key: str, *, agreeing: int, disagreeing: int = 0) -> Tallies:
    """Return so many comparisons of a behaviour."""
    tallies = Tallies()
    for number in range(agreeing):
        tallies.compare(key, "here", number, number)
    for number in range(disagreeing):
        tallies.compare(key, f"place {number}", "left", "right")
    return tallies


@pytest.fixture
def few_comparisons(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Put three comparisons in the place of the recorded evidence, and as many disagreements as asked for."""

    def put(disagreeing: int) -> None:
        recorded = tallies_of("eviction_order", agreeing=3, disagreeing=disagreeing)
        monkeypatch.setattr(command, "recorded_evidence", lambda: recorded)
        monkeypatch.setattr(
            command, "computed_evidence", lambda _seed: tallies_of("decode_latency", agreeing=1)
        )

    return put


def documents(folder: Path) -> tuple[dict[str, object], str]:
    """Return what was written."""
    assert sorted(path.name for path in folder.iterdir()) == ["fidelity.json", "fidelity.md"]
    return json.loads((folder / "fidelity.json").read_text()), (folder / "fidelity.md").read_text()


def test_without_a_disagreement(few_comparisons: Callable[[int], None], tmp_path: Path) -> None:
    """Status 0, and rows that were not compared do not claim to agree."""
    few_comparisons(0)
    folder = tmp_path / "new" / "folder"
    status, text = output_of("verify", "--output", str(folder))
    assert status == 0
    document, markdown = documents(folder)
    assert (document["understudy"], document["vllm"]) == (__version__, VLLM_VERSION)
    assert (document["comparisons"], document["disagreements"], document["agreement"]) == (4, 0, 1.0)
    for told in (text, markdown):
        assert "100 % agreement; 0 of 4 comparisons disagree, in 2 of" in told
        assert "not compared" in told
        assert "Not emulated" in told


def test_a_disagreement_is_seen_everywhere(
    few_comparisons: Callable[[int], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the exit status, the verdict, the overall figure, the examples and both documents."""
    few_comparisons(1)
    assert command.verify(output=tmp_path) == 1
    document, markdown = documents(tmp_path)
    assert (document["comparisons"], document["disagreements"], document["agreement"]) == (5, 1, 0.8)
    rows = {row["key"]: row for row in document["rows"]}  # type: ignore[attr-defined]  # plain JSON
    assert rows["eviction_order"]["verdict"] == "1 disagreement"
    assert rows["eviction_order"]["examples"] == ["place 0: vLLM 'left', understudy 'right'"]
    assert rows["decode_latency"]["verdict"] == "agrees"
    for told in (capsys.readouterr().out, markdown):
        assert "80.0000 % agreement; 1 of 5 comparisons disagree" in told
        assert "1 disagreement" in told
        assert "vLLM 'left', understudy 'right'" in told


def test_json_is_the_document(few_comparisons: Callable[[int], None], tmp_path: Path) -> None:
    """One document on standard output, the same that is written; an older one is replaced."""
    few_comparisons(0)
    (tmp_path / "fidelity.json").write_text("old")
    status, text = output_of("verify", "--json", "--output", str(tmp_path))
    assert status == 0
    assert text == (tmp_path / "fidelity.json").read_text()


def test_an_output_that_cannot_be_written(few_comparisons: Callable[[int], None], tmp_path: Path) -> None:
    """One line and status 1."""
    few_comparisons(0)
    (tmp_path / "file").touch()
    status, text = output_of("verify", "--output", str(tmp_path / "file"))
    assert status == 1
    assert text.startswith("understudy: cannot write ")


def live_result(*, disagreeing: bool, saved: Path | None = None) -> LiveResult:
    """Return what a live run of three workloads might have come to."""
    result = LiveResult(7, VLLM_VERSION, {"sync": 2, "async": 1}, iterations=50)
    result.tallies = tallies_of("batching", agreeing=5, disagreeing=int(disagreeing))
    if disagreeing:
        case = random_case("7-2")
        result.disagreement = Disagreement(__version__, VLLM_VERSION, 7, case, 4, {"new": [1]}, {"new": [2]})
        result.saved = saved
    return result


def test_live_evidence_counts_too(
    few_comparisons: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures are added to the recorded ones, and told apart in the document; seed and number are handed on."""
    few_comparisons(0)
    asked: list[object] = []

    def run_live(*arguments: object, progress: object) -> LiveResult:
        assert progress is not None
        asked.extend(arguments)
        return live_result(disagreeing=False)

    monkeypatch.setattr(command, "run_live", run_live)
    status, text = output_of(
        "verify", "--live", "--seed", "7", "--count", "3", "--vllm-python", "there", "--json"
    )
    assert status == 0
    assert asked == [7, 3, Path("there")]
    document = json.loads(text)
    assert (document["seed"], document["comparisons"]) == (7, 9)
    assert document["live"] == {
        "vllm": VLLM_VERSION,
        "cases": {"sync": 2, "async": 1},
        "iterations": 50,
        "saved": None,
    }
    evidence = {row["key"]: row["evidence"] for row in document["rows"]}
    assert evidence["batching"] == {"live": {"comparisons": 5, "disagreements": 0}}
    assert evidence["eviction_order"] == {"recorded": {"comparisons": 3, "disagreements": 0}}
    assert evidence["decode_latency"] == {"computed": {"comparisons": 1, "disagreements": 0}}


def test_a_live_disagreement_is_printed_with_the_command_that_repeats_it(
    few_comparisons: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both sides of what differs, and status 1."""
    few_comparisons(0)
    saved = Path("a folder") / "found.json"
    monkeypatch.setattr(command, "run_live", lambda *_, **__: live_result(disagreeing=True, saved=saved))
    assert command.verify(live=True, seed=7) == 1
    told = capsys.readouterr()
    assert "2 sync and 1 async workloads, 50 iterations beside vLLM" in told.out
    assert "seed 7" in told.err
    assert "vLLM       [1]" in told.err
    assert "understudy [2]" in told.err
    assert "understudy verify --reproduce 'a folder/found.json'" in told.err


def test_live_seeds_differ_and_are_printed(
    few_comparisons: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unless one is given; the number of workloads is then 300."""
    few_comparisons(0)
    asked: list[tuple[int, int]] = []

    def run_live(seed: int, count: int, *_: object, **__: object) -> LiveResult:
        asked.append((seed, count))
        return live_result(disagreeing=False)

    monkeypatch.setattr(command, "run_live", run_live)
    assert (command.verify(live=True), command.verify(live=True)) == (0, 0)
    (first, count), (second, _) = asked
    assert first != second
    assert count == 300
    assert capsys.readouterr().err == f"seed {first}\nseed {second}\n"


@pytest.mark.parametrize(("disagreeing", "status"), [(False, 0), (True, 1)])
def test_reproducing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, disagreeing: bool, status: int
) -> None:
    """Whether the saved workload still disagrees."""
    monkeypatch.setattr(command, "run_again", lambda *_: live_result(disagreeing=disagreeing))
    assert command.verify(reproduce=Path("found.json")) == status
    told = capsys.readouterr().out
    assert ("both sides agree in all 50 iterations" in told) != disagreeing
    assert ("understudy [2]" in told) == disagreeing


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--count 3", "--count goes with --live"),
        ("--vllm-python x", "--vllm-python goes with --live or --reproduce"),
        ("--live --count 0", "--count must be at least 1, got 0"),
        ("--reproduce x --live", "--reproduce goes with --vllm-python only, not with --live"),
        ("--reproduce x --seed 0", "--reproduce goes with --vllm-python only, not with --seed"),
        ("--reproduce x --json", "--reproduce goes with --vllm-python only, not with --json"),
        ("--reproduce x --output y", "--reproduce goes with --vllm-python only, not with --output"),
    ],
)
def test_flags_that_do_not_go_together(flags: str, complaint: str) -> None:
    """One line and status 2."""
    assert output_of("verify", *flags.split()) == (2, f"understudy: {complaint}\n")


def test_a_missing_environment_is_said_with_what_builds_it(tmp_path: Path) -> None:
    """Before anything else is run; a random seed has been printed by then."""
    result = understudy("verify", "--live", "--seed", "1", cwd=tmp_path)
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr.startswith("seed 1\nunderstudy: ")
    assert "`make vllm-env` builds it" in result.stderr
    assert not list(tmp_path.iterdir())
