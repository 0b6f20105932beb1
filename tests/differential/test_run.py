"""The whole tool, against a server that answers from the recording."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.differential import run
from tests.differential.conftest import RECORDING
from tests.differential.known import Known, read_known
from tests.differential.message import HttpAnswer, HttpRequest
from tests.differential.recorded_server import recorded_server
from tests.differential.recording import UnusableRecordingError, read_recording, write_recording

Recorded = list[tuple[HttpRequest, HttpAnswer]]
SOME = 150
ANY = Known(route=".*", kind=".*", field=".*", reason="all is well")


def _compare(ours: Recorded, judge: Recorded) -> list[run.Compared]:
    async def compare() -> list[run.Compared]:
        async with recorded_server(dict(ours)) as url:
            requests = [asked for asked, _ in judge]
            return await run.compare_all(url, [answer for _, answer in judge], requests, lambda _done: None)

    return asyncio.run(compare())


def test_equal_answers_have_no_difference(recorded: Recorded) -> None:
    """What was recorded and is served again passes, in the order of the requests."""
    results = _compare(recorded[:SOME], recorded[:SOME])
    assert list(range(SOME)) == [one.number for one in results]
    assert ([f"0 of {SOME} answers differ."], True) == run.summary(results, [], full=False)


def test_one_other_answer_is_found_and_told_with_its_request(recorded: Recorded) -> None:
    """The summary names route, kind and field, and the run has failed."""
    number = next(
        place for place, (_, answer) in enumerate(recorded[:SOME]) if answer.body.startswith(b'{"error"')
    )
    asked, answer = recorded[number]
    other = replace(answer, body=answer.body.replace(b'"message":"', b'"message":"Oh: '))
    results = _compare([*recorded[:SOME], (asked, other)], recorded[:SOME])
    lines, good = run.summary(results, [], full=False)
    assert not good
    assert [number] == [one.number for one in results if one.differences]
    assert f"1 x {asked.route} value body.error.message" in lines


def test_a_server_that_breaks_the_connection_differs(recorded: Recorded) -> None:
    """Silence is an answer of its own kind and does not end the run."""
    results = _compare(recorded[1:3], recorded[:3])
    assert [one.kind for one in results[0].differences] == ["status"]
    assert not results[1].differences


def test_a_known_difference_explains_and_a_stale_one_fails_a_full_run(recorded: Recorded) -> None:
    """A difference is explained by the first pattern that covers it; a pattern without one has to go."""
    asked, answer = recorded[0]
    results = _compare([(asked, replace(answer, status=599))], recorded[:1])
    stale = Known(route="GET /never", kind="value", field="body", reason="old")
    assert not run.summary(results, [stale], full=False)[1]
    assert run.summary(results, [ANY, stale], full=False)[1]
    lines, good = run.summary(results, [ANY, stale], full=True)
    assert not good
    assert any(line.startswith("STALE") and line.endswith("old") for line in lines)


def test_a_recording_is_read_as_it_was_written(recorded: Recorded, tmp_path: Path) -> None:
    """Whatever bytes the bodies hold."""
    file = tmp_path / "recording"
    answers = [replace(answer, body=answer.body + b"\xff\x00\n") for _, answer in recorded[:SOME]]
    write_recording(file, 1, answers, "vllm")
    heading, read = read_recording(file)
    assert (heading.seed, heading.count) == (1, SOME)
    assert answers == read


def test_a_recording_of_other_requests_is_refused(recorded: Recorded, tmp_path: Path) -> None:
    """Answers are never compared with those to another request, and what is no recording is told so."""
    file = tmp_path / "recording"
    write_recording(file, 1, [answer for _, answer in recorded[:2]], "vllm")
    answers = read_recording(file)[1]
    assert len(answers) == 2
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UnusableRecordingError, match="is no recording"):
        read_recording(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.differential.recording.request", lambda _seed, _number: HttpRequest("GET", "/"))
        with pytest.raises(UnusableRecordingError, match="record it again"):
            read_recording(RECORDING)


def test_the_command_ends_with_1_and_writes_each_difference(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status tells a machine, the file tells all differences with their requests."""
    recording, out = tmp_path / "recording", tmp_path / "new folder" / "differences.jsonl"
    write_recording(recording, 1, [answer for _, answer in recorded[:3]], "vllm")
    served = [
        (asked, replace(answer, headers=(*answer.headers, ("x-new", "1")))) for asked, answer in recorded[:3]
    ]

    async def command() -> int:
        async with recorded_server(dict(served)) as url:
            arguments = ["run", "--ours", url, "--replay", str(recording), "--out", str(out)]
            monkeypatch.setattr(sys, "argv", arguments)
            return await asyncio.to_thread(run.main)

    assert asyncio.run(command()) == 1
    assert "3 of 3 answers differ." in capsys.readouterr().out
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["kind"], line["field"]) for line in written] == [("extra", "headers.x-new")] * 3
    assert [asked.path for asked, _ in served] == [line["path"] for line in written]


def test_a_server_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, no traceback."""
    arguments = ["run", "--ours", "http://127.0.0.1:1", "--replay", str(RECORDING)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run.main() == 1
    assert "http://127.0.0.1:1 cannot be reached" in capsys.readouterr().err


def test_the_known_differences_are_well_formed() -> None:
    """Every one can be read, has a reason and covers something."""
    for known in read_known():
        assert known.reason
