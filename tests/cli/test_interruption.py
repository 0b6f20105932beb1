"""Ctrl-C, SIGTERM, and standard streams that are closed, full or without letters."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.processes import (
    NUM_REQUESTS,
    TIMEOUT_SECONDS,
    UNDERSTUDY,
    WAITING_POLICY,
    Finished,
    environment,
    everything_in,
    understudy,
)

RESULTS = "understudy-results-1"
NO_FILE_MAY_GROW = """
import resource
from understudy.cli.main import run
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
run()
"""
"""Every write beyond `size` bytes of a file fails, as on a full disk."""


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command whose policy waits, and return when it does."""
    (folder / "waits.py").write_text(WAITING_POLICY, encoding="utf-8")
    process = subprocess.Popen(
        [*UNDERSTUDY, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (folder / "waiting").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the policy was never asked"
        time.sleep(0.01)
    return process


def end(process: subprocess.Popen[bytes], signal_number: int) -> Finished:
    """Send a signal and return what the process left."""
    process.send_signal(signal_number)
    stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    return Finished(process.returncode, stdout.decode(), stderr.decode())


def test_ctrl_c_keeps_what_is_done(folder: Path) -> None:
    """The policy before is whole, the one under way is there in part, the one after is not there."""
    policies = "round-robin,waits.py:choose,prefix"
    result = end(start(folder, "compare", "trace.jsonl", "--policy", policies), signal.SIGINT)
    assert result.status == 130
    assert result.stderr.count("\n") == 1
    assert "interrupted" in result.stderr
    assert "Interrupted" in result.stdout
    results = folder / RESULTS
    names = {"summary.json", "report.html", "requests-round-robin.jsonl", "requests-waits-py-choose.jsonl"}
    assert {path.name for path in results.iterdir()} == names
    assert not list(folder.glob(".*"))
    summary = json.loads((results / "summary.json").read_bytes())
    assert summary["interrupted"] is True
    whole, part = summary["runs"]
    alone = understudy("simulate", "trace.jsonl", "--policy", "round-robin", "--json", cwd=folder)
    assert [whole] == json.loads(alone.stdout)["runs"]
    assert part["requests"] == part["finished"] + part["unfinished"] == 2
    for name, count in (("round-robin", NUM_REQUESTS), ("waits-py-choose", 2)):
        lines = (results / f"requests-{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == [str(index) for index in range(count)]


def test_ctrl_c_with_json_still_prints_one_document(folder: Path) -> None:
    """What is done is told as JSON, and nothing is written."""
    result = end(
        start(folder, "simulate", "trace.jsonl", "--policy", "waits.py:choose", "--json"), signal.SIGINT
    )
    assert result.status == 130
    assert json.loads(result.stdout)["interrupted"] is True
    assert set(everything_in(folder)) == {"trace.jsonl", "waits.py", "waiting"}


def test_ctrl_c_before_anything_ran(folder: Path) -> None:
    """While the policy's file is being read there is nothing to keep: one line, no results."""
    (folder / "slow.py").write_text(f"{WAITING_POLICY}\nclass memory: decisions = 2\nchoose(0, 0, memory)")
    result = end(start(folder, "simulate", "trace.jsonl", "--policy", "slow.py:choose"), signal.SIGINT)
    assert result.status == 130
    assert "interrupted" in result.error
    assert not list(folder.glob("*results*"))


def test_sigterm_interrupts_like_ctrl_c(folder: Path) -> None:
    """What is done is kept and marked, and no unfinished folder is left behind."""
    result = end(start(folder, "simulate", "trace.jsonl", "--policy", "waits.py:choose"), signal.SIGTERM)
    assert result.status == 130
    assert "interrupted" in result.stderr
    assert json.loads((folder / RESULTS / "summary.json").read_bytes())["interrupted"] is True
    assert not list(folder.glob(".*"))


def test_runs_at_the_same_time_take_different_folders(folder: Path) -> None:
    """A folder that a run under way will take is passed over, so that neither loses its results."""
    process = start(folder, "simulate", "trace.jsonl", "--policy", "waits.py:choose")
    second = understudy("simulate", "trace.jsonl", cwd=folder)
    assert "Report: understudy-results-2/" in second.stdout
    assert "Report: understudy-results-1/" in end(process, signal.SIGINT).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "trace.jsonl"),
        ("simulate", "trace.jsonl", "--json"),
        ("capacity", "llama-2-13b", "a100-40gb"),
        ("capacity", "llama-2-13b", "a100-40gb", "--json"),
        ("generate", "chat:requests=200"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_nobody_reads_the_output(folder: Path, arguments: tuple[str, ...]) -> None:
    """As with `| head`: the process ends without a word."""
    process = subprocess.Popen(
        [*UNDERSTUDY, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(TIMEOUT_SECONDS) == 1


def test_head_of_a_long_output(folder: Path) -> None:
    """The first line is read, then the pipe is closed while much is still to come."""
    process = subprocess.Popen(
        [*UNDERSTUDY, "generate", "unshared:requests=100000"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as stdout:
        assert json.loads(stdout.readline())["id"] == "0"
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(TIMEOUT_SECONDS) == 1


@pytest.mark.parametrize(
    "arguments",
    [("capacity", "llama-2-13b", "a100-40gb"), ("simulate", "trace.jsonl", "--json"), ("generate", "chat")],
    ids=" ".join,
)
def test_standard_output_on_a_full_disk(folder: Path, arguments: tuple[str, ...]) -> None:
    """One line says so, status 1."""
    with (folder / "out").open("wb") as out:
        process = subprocess.run(
            [sys.executable, "-c", NO_FILE_MAY_GROW.format(size=0), *arguments],
            cwd=folder,
            env=environment(),
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    result = Finished(process.returncode, "", process.stderr.decode())
    assert result.status == 1
    assert "File too large" in result.error


def test_results_on_a_full_disk(folder: Path) -> None:
    """One line names the file that could not be written; the rest is taken away again."""
    before = everything_in(folder)
    process = subprocess.run(
        [sys.executable, "-c", NO_FILE_MAY_GROW.format(size=5000), "simulate", "trace.jsonl"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    result = Finished(process.returncode, process.stdout.decode(), process.stderr.decode())
    assert result.status == 1
    assert f"cannot write {RESULTS}/" in result.error
    assert everything_in(folder) == before


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_from_the_start(folder: Path, closed: str) -> None:
    """The run goes on without them."""
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *UNDERSTUDY, "simulate", "trace.jsonl"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, b"")
    assert (folder / RESULTS / "report.html").exists()


def test_letters_that_the_stream_does_not_have(folder: Path) -> None:
    """They are written in another way, and the run succeeds."""
    (folder / "trace.jsonl").rename(folder / "tracé.jsonl")
    result = understudy(
        "simulate", "tracé.jsonl", cwd=folder, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    )
    assert (result.status, result.stderr) == (0, "")
    assert result.stdout.startswith("trac\\xe9.jsonl: 1 policy")
