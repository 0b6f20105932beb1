"""`understudy replay`: what it prints and writes, how it is interrupted, and what it says when it cannot."""

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import (
    NUM_REQUESTS,
    TIMEOUT_SECONDS,
    UNDERSTUDY,
    Finished,
    environment,
    everything_in,
    understudy,
)

from understudy import VLLM_VERSION
from understudy.testing import ServerHandle, start_server

FIRST = "understudy-results-1"
KEY = "sk-very-secret"
UNKNOWN = (
    "believed_cached_tokens",
    "preemptions",
    "evicted_blocks",
    "kv_usage_mean",
    "kv_usage_peak",
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerHandle]:
    """Serve a worker that answers as fast as it can, whose cached tokens are told."""
    with start_server("--enable-prompt-tokens-details", "--simulated-time-headers") as handle:
        yield handle


def summary_in(folder: Path) -> dict[str, Any]:
    """Return what a results folder says."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    return summary


def test_a_table_is_printed_and_a_folder_written(folder: Path, server: ServerHandle) -> None:
    """The form is that of a simulation; what clients cannot see is null, what they see besides is added."""
    server.reset()
    result = understudy("replay", "trace.jsonl", "--url", server.url, cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    assert "trace.jsonl: 1 run\n" in result.stdout
    assert result.stdout.endswith(f"\nReport: {FIRST}/report.html\n")
    results = folder / FIRST
    assert {path.name for path in results.iterdir()} == {"report.html", "summary.json", "requests.jsonl"}
    summary = summary_in(results)
    [run] = summary["runs"]
    assert (run["kind"], run["policy"], run["finished"], run["failed"]) == (
        "replay",
        "replay",
        NUM_REQUESTS,
        {},
    )
    assert [run[name] for name in UNKNOWN] == [None] * len(UNKNOWN)
    assert summary["vllm_version"] == VLLM_VERSION
    lines = [json.loads(line) for line in (results / "requests.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [str(number) for number in range(NUM_REQUESTS)]
    assert [line["prompt_tokens"] for line in lines] == [600, 900, 512, 700]
    assert [line["output_tokens"] for line in lines] == [5, 9, 1, 3]
    assert [line["cached_tokens"] for line in lines] == [0, 512, 0, 688]
    for line in lines:
        assert line["arrival_seconds"] <= line["sent_seconds"] <= line["first_token_seconds"]
        assert line["first_token_seconds"] <= line["finish_seconds"]
        assert (line["queued_seconds"], line["scheduled_seconds"], line["preemptions"]) == (None, None, None)
        assert line["simulated"]["arrival_seconds"] <= line["simulated"]["last_token_seconds"]
    simulated = understudy("simulate", "trace.jsonl", "--output", "s", cwd=folder)
    assert simulated.status == 0
    assert summary.keys() == summary_in(folder / "s").keys()
    assert run.keys() == summary_in(folder / "s")["runs"][0].keys()
    [other, *_] = (folder / "s" / "requests.jsonl").read_text().splitlines()
    assert json.loads(other).keys() <= lines[0].keys()


def test_json_is_one_document_and_writes_nothing(folder: Path, server: ServerHandle) -> None:
    """With --json: the document alone, no folder; with --output also the folder, its summary the same bytes."""
    before = everything_in(folder)
    result = understudy("replay", "trace.jsonl", "--url", server.url, "--json", cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    assert json.loads(result.stdout)["runs"][0]["finished"] == NUM_REQUESTS
    assert everything_in(folder) == before
    both = understudy(
        "replay", "trace.jsonl", "--url", server.url, "--json", "--output", "new/here", cwd=folder
    )
    assert both.stdout == (folder / "new/here/summary.json").read_text(encoding="utf-8")
    assert both.stderr == "\nReport: new/here/report.html\n"


def test_the_command_of_a_summary_repeats_it(folder: Path, server: ServerHandle) -> None:
    """All that was chosen is in it and in the settings."""
    flags = (
        "--speed 10.0 --max-connections 7 --name 'my run' --seed 3 --arrivals poisson --rate 50.0 --limit 3"
    )
    words = ("replay", "trace.jsonl", "--url", f"{server.url}/v1", *shlex.split(flags))
    first = understudy(*words, "--output", "a", cwd=folder)
    assert first.status == 0, first.stderr
    summary = summary_in(folder / "a")
    program, *arguments = shlex.split(summary["command"])
    assert (program, sorted(arguments)) == ("understudy", sorted(words))
    settings = summary["settings"]
    assert (settings["url"], settings["model"], settings["rate"]) == (server.url, server.model, 50.0)
    assert (settings["replay_speed"], settings["max_connections"], settings["limit"]) == (10.0, 7, 3)
    assert any("went 10 times as fast" in note for note in summary["notes"])
    again = understudy(*arguments, "--output", "b", cwd=folder)
    assert again.status == 0, again.stderr
    assert summary_in(folder / "b")["settings"] == settings


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_the_key_is_never_kept(folder: Path, how: str) -> None:
    """It opens the door, and stands in no file and no output."""
    with start_server("--api-key", KEY) as guarded:
        flags = ("--api-key", KEY) if how == "flag" else ()
        result = understudy(
            "replay", "trace.jsonl", "--url", guarded.url, *flags,
            cwd=folder, env={} if how == "flag" else {"OPENAI_API_KEY": KEY},
        )  # fmt: skip
        assert result.status == 0, result.stderr
        refused = understudy("replay", "trace.jsonl", "--url", guarded.url, "--api-key", "x", cwd=folder)
        assert refused.status == 1
        assert "/v1/models answers 401" in refused.error
    written = b"".join(content or b"" for content in everything_in(folder).values())
    assert KEY.encode() not in written + result.stdout.encode()


def test_few_open_files(folder: Path, server: ServerHandle) -> None:
    """Where the system lets this process open few files, a note says how many connections that leaves."""
    words = (*UNDERSTUDY, "replay", "trace.jsonl", "--url", server.url, "--json")
    process = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    assert any("for 36 connections at once, of 1,024" in note for note in summary["notes"])
    assert summary["runs"][0]["finished"] == NUM_REQUESTS


def test_nobody_is_there(folder: Path) -> None:
    """One line says who cannot be reached, and nothing is written."""
    with start_server() as gone:
        url = gone.url
    before = everything_in(folder)
    result = understudy("replay", "trace.jsonl", "--url", url, cwd=folder)
    assert result.status == 1
    assert f"cannot reach {url}" in result.error
    assert everything_in(folder) == before


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        ("trace.jsonl", 2, "--url"),
        ("trace.jsonl --url localhost:8000", 2, "http://HOST:PORT"),
        ("trace.jsonl --url http://h --speed 0", 2, "--speed must be a number from"),
        ("trace.jsonl --url http://h --speed nan", 2, "--speed must be a number from"),
        ("trace.jsonl --url http://h --max-connections 0", 2, "--max-connections must be from 1"),
        ("trace.jsonl --url http://h --timeout-seconds -1", 2, "--timeout-seconds must be"),
        ("trace.jsonl --url http://h --vocabulary-size 3", 2, "the vocabulary must have"),
        ("trace.jsonl --url http://h --name ''", 2, "--name must not be empty"),
        ("trace.jsonl --url http://h --rate 3", 2, "--rate goes with --arrivals"),
        ("trace.jsonl --url http://h --arrivals poisson --rate 0", 2, "rate must be"),
        ("cut.jsonl --url http://h", 1, "cut.jsonl: line 5"),
        ("none.jsonl --url http://h", 1, "no such file"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_sent(
    folder: Path, flags: str, status: int, told: str
) -> None:
    """One line names what was wrong, a mistake at the end of the trace included, and nothing is written."""
    trace = (folder / "trace.jsonl").read_text(encoding="utf-8")
    (folder / "cut.jsonl").write_text(trace + trace[:40], encoding="utf-8")
    before = everything_in(folder)
    result = understudy("replay", *shlex.split(flags), cwd=folder)
    assert result.status == status
    assert told in result.error
    assert everything_in(folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_has_happened(folder: Path, number: int) -> None:
    """Requests whose answers have not come are unfinished; all is written and marked, and the status is 130."""
    with start_server(clock="manual") as stopped:
        process = subprocess.Popen(
            [*UNDERSTUDY, "replay", "trace.jsonl", "--url", stopped.url],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stopped.wait_for_requests(NUM_REQUESTS, TIMEOUT_SECONDS)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    result = Finished(process.returncode, stdout.decode(), stderr.decode())
    assert (result.status, result.stderr.count("\n")) == (130, 1)
    assert "interrupted" in result.stderr
    summary = summary_in(folder / FIRST)
    assert (summary["interrupted"], summary["runs"][0]["unfinished"]) == (True, NUM_REQUESTS)
    assert not list(folder.glob(".*"))
