"""`compare --with`: results of earlier runs, a replay's above all, beside those of policies."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import everything_in, understudy

from understudy.testing import start_server

KINDS = ["replay", "simulation", "simulation"]


def run(folder: Path, line: str) -> dict[str, Any]:
    """Run a command that succeeds and return its summary."""
    result = understudy(*shlex.split(line), "--json", cwd=folder)
    assert result.status == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def test_a_replay_beside_a_simulation(folder: Path) -> None:
    """The replay's figures are its own, in the table, in the report and in the document; its notes and settings come along."""
    with start_server("--gpu", "b200") as server:
        assert (
            understudy("replay", "trace.jsonl", "--url", server.url, "--output", "real", cwd=folder).status
            == 0
        )
    words = ("compare", "trace.jsonl", "--policy", "prefix,random", "--workers", "2", "--with", "real")
    result = understudy(*words, cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    assert "trace.jsonl: 3 runs\n" in result.stdout
    summary = json.loads((folder / "understudy-results-1/summary.json").read_bytes())
    replay, *simulations = summary["runs"]
    assert [each["kind"] for each in summary["runs"]] == KINDS
    real = json.loads((folder / "real/summary.json").read_bytes())
    assert replay == real["runs"][0]
    alone = run(folder, "compare trace.jsonl --policy prefix,random --workers 2")
    assert simulations == alone["runs"]
    assert [note for note in summary["notes"] if note.startswith("replay: ")] == [
        f"replay: {note}" for note in real["notes"]
    ]
    assert summary["settings"]["real: url"] == server.url
    assert "real: arrivals" not in summary["settings"]
    assert summary["command"].endswith("--with real --workers 2")
    assert "<td>\u2013</td>" in (folder / "understudy-results-1/report.html").read_text(encoding="utf-8")
    names = {path.name for path in (folder / "understudy-results-1").iterdir()}
    assert names == {"summary.json", "report.html", "requests-prefix.jsonl", "requests-random.jsonl"}


def test_names_stay_apart(folder: Path) -> None:
    """A policy that is in several results is called after their folders; folders come in the order of the command."""
    for name in ("a", "b"):
        assert understudy("simulate", "trace.jsonl", "--output", name, cwd=folder).status == 0
    summary = run(folder, "compare trace.jsonl --policy prefix,random --with b --with a")
    assert [each["policy"] for each in summary["runs"]] == ["prefix (b)", "prefix (a)", "prefix", "random"]
    first, second, third, _ = summary["runs"]
    assert first | {"policy": ""} == second | {"policy": ""} == third | {"policy": ""}
    assert summary["notes"] == []


def test_other_requests_are_told(folder: Path) -> None:
    """Results of another trace or of other arrivals are shown, with a note that says in what they differ."""
    (folder / "other.jsonl").write_text((folder / "trace.jsonl").read_text().replace("600", "601"))
    assert understudy("simulate", "other.jsonl", "--output", "other", cwd=folder).status == 0
    words = "simulate trace.jsonl --arrivals constant --rate 2 --limit 3 --output paced"
    assert understudy(*words.split(), cwd=folder).status == 0
    summary = run(folder, "compare trace.jsonl --policy random --with other --with paced")
    assert summary["notes"] == [
        "prefix (other): these results are of another trace, other.jsonl.",
        (
            "prefix (paced): these results are of other arrivals: arrivals constant instead of trace, rate 2.0 instead of None, "
            "limit 3 instead of None."
        ),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot read summary.json: No such file"),
        (b"nonsense", "no summary of results"),
        (b"\xff", "no summary of results"),
        (b"{}", "no summary of results: Object missing required field"),
    ],
)
def test_folders_without_results(folder: Path, content: bytes | None, told: str) -> None:
    """One line says what is wrong, before anything is run."""
    (folder / "none").mkdir()
    if content is not None:
        (folder / "none/summary.json").write_bytes(content)
    before = everything_in(folder)
    result = understudy("compare", "trace.jsonl", "--with", "none", cwd=folder)
    assert result.status == 1
    assert told in result.error
    assert "--with none" in result.error
    assert everything_in(folder) == before


def test_text_of_earlier_results_is_harmless(folder: Path) -> None:
    """Whatever a summary that was written by others calls its runs and failures, no markup and no escape comes of it."""
    assert understudy("simulate", "trace.jsonl", "--output", "a", cwd=folder).status == 0
    path = folder / "a/summary.json"
    summary = json.loads(path.read_bytes())
    summary["runs"][0] |= {"policy": "<b>\x1b[31m", "failed": {"<i>\x1b[31m": 1}}
    summary["notes"] = ["<u>\x1b[31m"]
    path.write_text(json.dumps(summary))
    result = understudy(
        "compare", "trace.jsonl", "--policy", "random", "--with", "a", "--output", "b", cwd=folder
    )
    assert result.status == 0
    assert "\x1b" not in result.stdout
    report = (folder / "b/report.html").read_text(encoding="utf-8")
    assert not any(tag in report for tag in ("<b>", "<i>", "<u>", "\x1b"))
