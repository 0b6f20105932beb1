"""Results on disk: whole or not at all, every run in a file of its own, and what is written is what was found."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import fleet, law, simulate, turn

from understudy.errors import OutputError, UsageError
from understudy.fleet import (
    Comparison,
    RequestRecord,
    ResultsFolder,
    Simulation,
    summarise,
    to_json,
    write_results,
)


def _simulation() -> Simulation:
    workload = [turn(i, i * 1_000, i % 2, 70 if i == 3 else 20, 10) for i in range(6)]
    return simulate(fleet(), workload)


def _comparison(*simulations: Simulation) -> Comparison:
    return Comparison(
        understudy_version="1",
        vllm_version="2",
        command="understudy simulate",
        trace="a trace",
        trace_sha256=None,
        settings={"workers": 3, "rate": 0.1, "seed": None, "json": True, "name": "naïve"},
        notes=["A note."],
        interrupted=False,
        runs=[summarise(simulation) for simulation in simulations],
    )


def _write(path: Path, policies: list[str]) -> None:
    record = _simulation().records[0]
    with ResultsFolder(path) as folder:
        write_results(
            folder,
            _comparison(),
            {policy: [record._replace(serial=i, request_id=policy)] for i, policy in enumerate(policies)},
            "<html>",
        )


def _ids(path: Path) -> list[str]:
    return [msgspec.json.decode(line)["id"] for line in path.read_bytes().splitlines()]


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Until the end nothing stands at its place, afterwards nothing beside it; its parents are made."""
    path = tmp_path / "some" / "where" / "results"
    with ResultsFolder(path) as folder:
        folder.write("one", [b"1", b"2"])
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["one"]
    assert (path / "one").read_bytes() == b"12"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_as_open_as_any_other(tmp_path: Path) -> None:
    """It has the permissions of a folder made by hand."""
    with ResultsFolder(tmp_path / "results"):
        (tmp_path / "plain").mkdir()
    assert (tmp_path / "results").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither itself nor what was begun of it."""

    def failing() -> Iterator[bytes]:
        yield b"1"
        raise error

    with pytest.raises(error), ResultsFolder(tmp_path / "results") as folder:
        folder.write("one", failing())
    assert list(tmp_path.iterdir()) == []


def test_a_taken_place_is_refused(tmp_path: Path) -> None:
    """A folder, a file and a link to nowhere are left as they are; the error comes before any work."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    for path in before:
        with pytest.raises(UsageError, match=r"^the output folder .* exists already: "):
            ResultsFolder(path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Who came first keeps the place; the results are kept, and the error says where."""
    path = tmp_path / "results"
    with (
        pytest.raises(OutputError, match=r"^cannot name the results [^\n]*results: ") as caught,
        ResultsFolder(path) as folder,
    ):
        folder.write("one", _taking(path / "theirs"))
    assert [file.name for file in path.iterdir()] == ["theirs"]
    kept = Path(str(caught.value).rpartition("they are in ")[2])
    assert (kept / "one").read_bytes() == b"1"
    assert sorted(tmp_path.iterdir()) == sorted([path, kept])


def _taking(place: Path) -> Iterator[bytes]:
    place.mkdir(parents=True)
    yield b"1"


def test_a_parent_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    """One line says so, before any work."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "results", tmp_path / "file" / "below" / "results"):
        with pytest.raises(OutputError, match=r"^cannot write to [^\n]*results: [^\n]+$"):
            ResultsFolder(path)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """One line says so, before any work."""
    for length in (250, 5_000):
        with pytest.raises(OutputError, match=r"^cannot write to [^\n]*: [^\n]+$"):
            ResultsFolder(tmp_path / ("x" * length))
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so, before any work, whoever runs it."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with pytest.raises(OutputError, match=r"^cannot write to .*results: Permission denied$"):
        ResultsFolder(tmp_path / "results")


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """One line names it, and nothing is left of the folder."""
    with (
        pytest.raises(OutputError, match=r"^cannot write [^\n]*results/no/file: "),
        ResultsFolder(tmp_path / "results") as folder,
    ):
        folder.write("no/file", [b"1"])
    assert list(tmp_path.iterdir()) == []


def test_one_run_needs_no_name(tmp_path: Path) -> None:
    """The files of a simulation."""
    _write(tmp_path / "results", ["prefix"])
    names = sorted(file.name for file in (tmp_path / "results").iterdir())
    assert names == ["report.html", "requests.jsonl", "summary.json"]
    assert (tmp_path / "results" / "report.html").read_text() == "<html>"


def test_runs_are_named_by_their_policies(tmp_path: Path) -> None:
    """The files of a comparison."""
    _write(tmp_path / "results", ["prefix", "round-robin"])
    for policy in ("prefix", "round-robin"):
        assert _ids(tmp_path / "results" / f"requests-{policy}.jsonl") == [policy]


@law
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
        | st.text("ab/.:-", min_size=1, max_size=4)
        | st.text("aé/", min_size=300, max_size=301),
        min_size=2,
        max_size=5,
        unique=True,
    )
)
def test_each_policy_has_a_file_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, policies: list[str]
) -> None:
    """Whatever policies are called, no file overwrites another, nor gets out of the folder."""
    home = tmp_path_factory.mktemp("home")
    _write(home / "results", policies)
    assert [file.name for file in home.iterdir()] == ["results"]
    files = [file for file in (home / "results").iterdir() if file.suffix == ".jsonl"]
    assert sorted(_ids(file)[0] for file in files) == sorted(policies)
    assert len({file.name.casefold() for file in files}) == len(policies), "also where case does not count"


def test_files_of_policies_with_like_names_do_not_collide(tmp_path: Path) -> None:
    """Characters that no file name should have are replaced, which must not make two policies one."""
    policies = ["A-b.py:choose", "a/b.py:choose", "a-b.py:choose"]
    _write(tmp_path / "results", policies)
    files = sorted((tmp_path / "results").glob("requests-*.jsonl"))
    assert sorted(_ids(file)[0] for file in files) == sorted(policies)
    assert len({file.name.casefold() for file in files}) == len(policies), "also where case does not count"


def test_json_reads_back_equal() -> None:
    """`summary.json` says all that was found, no digit lost; the same document gives the same bytes."""
    comparison = _comparison(_simulation())
    document = to_json(comparison)
    assert msgspec.json.decode(document, type=Comparison) == comparison
    assert to_json(_comparison(_simulation())) == document
    assert document.endswith(b"}\n")


def test_a_record_is_written_in_seconds(tmp_path: Path) -> None:
    """A line says what the record says, null where a thing did not happen; lines are in order of arrival."""
    records = _simulation().records
    with ResultsFolder(tmp_path / "results") as folder:
        write_results(folder, _comparison(), {"prefix": records}, "")
    lines = [
        msgspec.json.decode(line)
        for line in (tmp_path / "results" / "requests.jsonl").read_bytes().splitlines()
    ]
    assert [_record(serial, line) for serial, line in enumerate(lines)] == records
    assert any(record.status == "refused" for record in records)


def _record(serial: int, line: dict[str, int | float | str | None]) -> RequestRecord:
    """Read a line back."""
    fields: dict[str, object] = {"serial": serial}
    for name, value in line.items():
        if name.endswith("_seconds"):
            assert not isinstance(value, str)
            fields[name.removesuffix("seconds") + "ns"] = None if value is None else round(value * 10**9)
        else:
            fields["request_id" if name == "id" else name] = value
    assert fields.keys() == set(RequestRecord._fields)
    return msgspec.convert([fields[name] for name in RequestRecord._fields], RequestRecord)
