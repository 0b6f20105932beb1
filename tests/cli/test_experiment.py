"""simulate, compare and demo: what they print, what they write, and that they can be repeated."""

import json
import shlex
from pathlib import Path

import pytest
from tests.cli.processes import NUM_REQUESTS, TRACE, everything_in, understudy

FIRST = "understudy-results-1"
OWN_POLICY = "def choose(request, fleet, memory):\n    return memory.decisions % len(fleet)\n"


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (("simulate", "trace.jsonl"), {"requests.jsonl"}),
        (
            ("compare", "trace.jsonl", "--policy", "prefix, random"),
            {"requests-prefix.jsonl", "requests-random.jsonl"},
        ),
    ],
)
def test_a_table_is_printed_and_a_folder_written(
    folder: Path, words: tuple[str, ...], files: set[str]
) -> None:
    """Without --json: a table without colours, the next free folder, and a line for each request in it."""
    result = understudy(*words, cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert "hit rate, tokens" in result.stdout
    assert result.stdout.endswith(f"\nReport: {FIRST}/report.html\n")
    results = folder / FIRST
    assert {path.name for path in results.iterdir()} == {"report.html", "summary.json", *files}
    assert json.loads((results / "summary.json").read_bytes())["interrupted"] is False
    assert (results / "report.html").read_text(encoding="utf-8").startswith("<!")
    for name in files:
        lines = (results / name).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == [str(index) for index in range(NUM_REQUESTS)]


@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_json_is_one_document_and_writes_nothing(folder: Path, command: str) -> None:
    """With --json: the document alone, no folder; with --output also the folder, its summary the same bytes."""
    before = everything_in(folder)
    result = understudy(command, "trace.jsonl", "--json", cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    assert all(run["finished"] == NUM_REQUESTS for run in json.loads(result.stdout)["runs"])
    assert everything_in(folder) == before
    both = understudy(command, "trace.jsonl", "--json", "--output", "new/here", cwd=folder)
    assert both.stdout == result.stdout == (folder / "new/here/summary.json").read_text(encoding="utf-8")
    assert both.stderr == "\nReport: new/here/report.html\n"


def test_folders_are_numbered_from_the_first_free_one(folder: Path) -> None:
    """A number that is taken, by whatever, is passed over."""
    (folder / FIRST).touch()
    (folder / "understudy-results-3").mkdir()
    for expected in (2, 4):
        result = understudy("simulate", "trace.jsonl", cwd=folder)
        assert result.stdout.endswith(f"\nReport: understudy-results-{expected}/report.html\n")


def test_demo(folder: Path) -> None:
    """It compares three policies on a thousand requests, and says by which command to do the same."""
    result = understudy("demo", "--json", cwd=folder)
    assert (result.status, result.stderr) == (0, "")
    summary = json.loads(result.stdout)
    assert [run["policy"] for run in summary["runs"]] == ["prefix", "round-robin", "least-loaded"]
    assert {run["finished"] for run in summary["runs"]} == {1000}
    command = "understudy compare conversation-1k --policy prefix,round-robin,least-loaded"
    assert summary["command"] == f"{command} --model llama-3.1-8b --gpu b200"


@pytest.mark.parametrize(
    "flags",
    [
        "simulate trace.jsonl",
        "simulate trace.jsonl --policy random --seed -7 --workers 3",
        "simulate trace.jsonl --policy 'my policies/own.py:choose' --speed 0.3",
        "simulate trace.jsonl --limit 2 --no-enable-prefix-caching --no-async-scheduling --watermark 1e-05",
        "simulate chat:requests=9,seed=4,rate=0.5 --prefix-caching-hash-algo sha256_cbor",
        "simulate rag:requests=9 --arrivals closed --concurrency 2 --think-seconds 0.25 --policy session",
        "compare trace.jsonl --policy 'power-of-two, dynamo-kv' --arrivals bursty --rate 3 --burstiness 0.5",
        "compare trace.jsonl --knowledge heartbeat --heartbeat-seconds 0.05 --synchronisation-seconds 0.1",
        "compare trace.jsonl --knowledge events --news-delay-seconds 0 --decode-seconds-per-step 0.02",
        "compare trace.jsonl --model llama-3.1-8b --gpu h100 --max-model-len 8192 --scheduling-policy priority",
    ],
)
def test_the_command_of_a_summary_repeats_it(folder: Path, flags: str) -> None:
    """Run again in another process, with other hashes of Python's own, it gives the same bytes."""
    (folder / "my policies").mkdir()
    (folder / "my policies" / "own.py").write_text(OWN_POLICY, encoding="utf-8")
    first = understudy(*shlex.split(flags), "--output", "a", cwd=folder, env={"PYTHONHASHSEED": "1"})
    assert first.status == 0, first.stderr
    summary = (folder / "a" / "summary.json").read_bytes()
    program, *arguments = shlex.split(json.loads(summary)["command"])
    assert program == "understudy"
    again = understudy(*arguments, "--output", "b", cwd=folder, env={"PYTHONHASHSEED": "2"})
    assert again.status == 0, again.stderr
    written = {
        name: {path.name: path.read_bytes() for path in (folder / name).iterdir()} for name in ("a", "b")
    }
    assert written["a"] == written["b"]


@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_standard_input_is_read_once_and_serves_every_policy(folder: Path, command: str) -> None:
    """A trace through a pipe gives the same runs as the same trace in a file."""
    piped = json.loads(understudy(command, "-", "--json", cwd=folder, stdin=TRACE).stdout)
    file = json.loads(understudy(command, "trace.jsonl", "--json", cwd=folder).stdout)
    assert (piped["trace"], piped["trace_sha256"]) == ("-", file["trace_sha256"])
    assert piped["runs"] == file["runs"]


def test_a_pipe_of_two_commands(folder: Path) -> None:
    """What generate prints, simulate reads, and it is the workload that simulate itself would generate."""
    name = "chat:requests=6,seed=3"
    generated = understudy("generate", name, cwd=folder)
    assert (generated.status, generated.stderr) == (0, "")
    piped = understudy("simulate", "-", "--json", cwd=folder, stdin=generated.stdout)
    direct = understudy("simulate", name, "--json", cwd=folder)
    assert json.loads(piped.stdout)["runs"] == json.loads(direct.stdout)["runs"]
    assert understudy("generate", "-", cwd=folder, stdin=generated.stdout) == generated
