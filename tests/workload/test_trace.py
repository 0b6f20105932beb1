"""Opening a workload by its name: files of all kinds, standard input, samples; and anything that is none."""

import gc
import gzip
import hashlib
import io
import json
import os
import tempfile
import tracemalloc
from collections.abc import Iterable
from errno import ELOOP, ENAMETOOLONG
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.workload.lines import AZURE_HEADER, mooncake, native

from understudy.errors import TraceError, UsageError
from understudy.workload import Trace, WorkloadRequest, known_samples, open_trace
from understudy.workload import source as source_module

DATA = files("understudy.workload") / "data"
AZURE_ROW = "2023-11-16 18:17:03.9799600,4808,10"

VALID = {
    "mooncake": [mooncake(), mooncake(timestamp=6)],
    "azure": [AZURE_HEADER, AZURE_ROW, AZURE_ROW],
    "native": [native(), native(id="b", session="s", outputs=[1, 2, 3, 4])],
}


def text_of(lines: Iterable[str]) -> bytes:
    """Return the bytes of a file with these lines."""
    return "".join(f"{line}\n" for line in lines).encode()


def test_the_conversation_trace_is_read_to_its_end() -> None:
    """Every request of the real trace arrives with its own lengths, time and ids."""
    unpacked = gzip.decompress((DATA / "conversation.jsonl.gz").read_bytes())
    records = [json.loads(line) for line in unpacked.splitlines()]
    trace = open_trace("conversation")
    requests = list(trace)
    assert len(requests) == trace.num_requests == 12_031  # data/README.md
    for record, request in zip(records, requests, strict=True):
        assert request.arrival_ns == record["timestamp"] * 10**6
        assert request.prompt.num_tokens == record["input_length"]
        assert request.output_tokens == record["output_length"]
        assert request.prompt.segment_ids == tuple(record["hash_ids"])  # type: ignore[union-attr]


def test_the_samples_are_what_their_readme_says() -> None:
    """The trace is the published one, and the short one is its start."""
    unpacked = gzip.decompress((DATA / "conversation.jsonl.gz").read_bytes())
    assert hashlib.sha256(unpacked).hexdigest() in (DATA / "README.md").read_text(encoding="utf-8")
    for name in known_samples():
        trace = open_trace(name)
        assert trace.sha256 == hashlib.sha256((DATA / f"{name}.jsonl.gz").read_bytes()).hexdigest()
        assert sum(1 for _ in trace) == trace.num_requests
    assert list(open_trace("conversation-1k")) == list(open_trace("conversation", limit=1000))
    assert "Apache License" in (DATA / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VALID)
def test_every_format_is_recognised_packed_or_not(tmp_path: Path, name: str) -> None:
    """Format and packing are told by what is in a file, not its name; a byte order mark does no harm."""
    content = text_of(VALID[name])
    plain, packed, marked = tmp_path / "plain.gz", tmp_path / "packed.txt", tmp_path / "marked"
    plain.write_bytes(b"\n" + content)
    packed.write_bytes(gzip.compress(content))
    marked.write_bytes(b"\xef\xbb\xbf" + content)
    traces = [open_trace(path) for path in (plain, packed, marked)]
    assert {trace.format for trace in traces} == {name}
    assert [trace.sha256 for trace in traces] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (plain, packed, marked)
    ]
    assert len(list(traces[0])) == 2
    assert list(traces[0]) == list(traces[1]) == list(traces[2])


def standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put bytes into standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_can_be_iterated_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pack: type[bytes]
) -> None:
    """It is read once, kept in a file, even by two at a time, and the file goes when the trace goes."""
    content = pack(text_of(VALID["mooncake"]))
    standard_input(monkeypatch, content)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trace = open_trace("-")
    assert list(zip(trace, trace, strict=True)) == [(request, request) for request in trace]
    assert len(list(trace)) == 2
    assert trace.sha256 == hashlib.sha256(content).hexdigest()
    assert len(list(tmp_path.iterdir())) == 1
    del trace
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_pipe_with_a_name_can_be_iterated_again_and_again(tmp_path: Path) -> None:
    """What a shell makes of <(...) can be read once only, so it is kept like standard input."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(text_of(VALID["native"]),))
    writer.start()
    trace = open_trace(pipe)
    writer.join()
    assert len(list(trace)) == len(list(trace)) == 2


def test_a_stream_has_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stream without end does not fill the disk, and leaves nothing behind."""
    standard_input(monkeypatch, b"x" * 2000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(source_module, "MAX_SPOOLED_BYTES", 1000)
    with pytest.raises(TraceError, match="standard input: a stream may have 1,000 bytes"):
        open_trace("-")
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_limit_ends_the_trace_early(tmp_path: Path) -> None:
    """What lies behind the limit is not even read."""
    path = tmp_path / "t"
    path.write_bytes(text_of([*VALID["mooncake"], "garbage"]))
    assert len(list(open_trace(path, limit=2))) == 2
    with pytest.raises(UsageError, match="must be at least 1, got 0"):
        open_trace(path, limit=0)


def test_names_of_files_do_not_hide_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A built-in name means the same in every folder; a file of that name is found by its path."""
    monkeypatch.chdir(tmp_path)
    for name in ("conversation-1k", "chat"):
        Path(name).write_bytes(text_of(VALID["azure"]))
        assert open_trace(name).num_requests == 1000
        assert open_trace(f"./{name}").format == open_trace(Path(name)).format == "azure"


def opening_error(name: str | Path) -> str:
    """Return what is said when a workload cannot be read."""
    with pytest.raises(TraceError) as error:
        list(open_trace(name))
    return str(error.value)


def test_what_is_no_trace_is_told_in_one_line(tmp_path: Path) -> None:
    """Missing, no file, closed to us, empty, packed wrongly, no text, no format: each has its own words."""
    path = tmp_path / "t"
    assert opening_error("conversatio") == (
        "conversatio: no such file, and unknown sample or generator 'conversatio': "
        "did you mean conversation, conversation-1k?"
    )
    assert opening_error(path).startswith(f"{path}: no such file, and unknown sample or generator")
    assert opening_error(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert opening_error("\0") == "\0: cannot be read: embedded null byte"
    for content in (b"", b"\n \n", gzip.compress(b""), AZURE_HEADER.encode()):
        path.write_bytes(content)
        assert opening_error(path) == f"{path}: no requests in it"
    path.write_bytes('{"prompt": "ä"}'.encode("latin-1"))
    assert opening_error(path) == f"{path}: line 1: not UTF-8"
    path.write_bytes("hello".encode("utf-16"))
    assert opening_error(path) == f"{path}: line 1: not UTF-8"
    for content in (b"hello, world", b'{"some": "json"}', b"[1]", b"\x1b[2J"):
        path.write_bytes(content)
        error = opening_error(path)
        assert error.startswith(f"{path}: line 1: no known trace format: ")
        assert all(name in error for name in VALID)
        assert error.isprintable()
    packed = gzip.compress(text_of([mooncake()] * 1000))
    for broken in (packed[:-100], packed[:50] + b"\xff" * 50 + packed[100:], packed + b"junk"):
        path.write_bytes(broken)
        assert opening_error(path).startswith(f"{path}: corrupt gzip data after line ")


def test_the_reason_of_the_operating_system_is_passed_on(tmp_path: Path) -> None:
    """Whatever keeps a file from being read is said in the system's words."""
    path = tmp_path / "t"
    path.symlink_to(path)
    assert opening_error(path) == f"{path}: cannot be read: {os.strerror(ELOOP)}"
    long = tmp_path / ("x" * 5_000)
    assert opening_error(long) == f"{long}: cannot be read: {os.strerror(ENAMETOOLONG)}"


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No line is read into memory beyond the limit."""
    monkeypatch.setattr(source_module, "MAX_LINE_BYTES", 200)
    path = tmp_path / "t"
    path.write_bytes(text_of([mooncake(), "x" * 200]))
    assert opening_error(path) == f"{path}: line 2: longer than 200 bytes"
    path.write_bytes(b"x" * 10_000_000)
    tracemalloc.start()
    try:
        assert opening_error(path) == f"{path}: line 1: longer than 200 bytes"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def peak_bytes(trace: Trace) -> int:
    """Return the most memory that reading a trace took."""
    tracemalloc.start()
    try:
        for _ in trace:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path: Path, name: str, pack: type[bytes]) -> None:
    """A file twenty times as long takes no more memory to read."""
    peaks = []
    for repeats in (500, 10_000):
        path = tmp_path / str(repeats)
        path.write_bytes(pack(text_of([*VALID[name][:-1], *VALID[name][-1:] * repeats])))
        peaks.append(peak_bytes(open_trace(path)))
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    "text",
    [
        "chat:think_seconds=5,system_tokens=32,user_tokens=32,output_tokens=32",
        "rag:document_tokens=32,instruction_tokens=32",
        "system-prompts:system_tokens=64,user_tokens=64",
        "unshared:prompt_tokens=64",
    ],
)
def test_memory_does_not_grow_with_the_length_of_a_generated_workload(text: str) -> None:
    """Ten times as many requests take no more memory, but for what random sessions differ.

    The lengths are above those of the tuples that CPython keeps for reuse.
    """
    few, many = (peak_bytes(open_trace(f"{text},requests={count}")) for count in (400, 4_000))
    assert many < 2 * few


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = scalars | st.lists(scalars, max_size=4) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)
FIELDS = {
    "mooncake": ["timestamp", "input_length", "output_length", "hash_ids"],
    "native": [
        "id",
        "arrival_seconds",
        "prompt",
        "output_tokens",
        "outputs",
        "session",
        "priority",
        "cache_salt",
        "x",
    ],
}


@st.composite
def strange_records(draw: st.DrawFn) -> bytes:
    """Draw traces whose last record has the right fields and any values."""
    name = draw(st.sampled_from(sorted(FIELDS)))
    make = {"mooncake": mooncake, "native": native}[name]
    changes = draw(st.dictionaries(st.sampled_from(FIELDS[name]), values | st.just(...), max_size=4))
    return text_of([*VALID[name], make(**changes)])


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Draw good traces, packed or not, into which a few bytes were put in place of others."""
    content = text_of(VALID[draw(st.sampled_from(sorted(VALID)))])
    if draw(st.booleans()):
        content = gzip.compress(content, mtime=0)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(start + 20, len(content))))
        content = content[:start] + draw(st.binary(max_size=10)) + content[end:]
    return content


@settings(deadline=None)
@given(st.binary(max_size=200) | damaged_files() | strange_records())
@example(b"\x1f\x8b")
@example(b'{"hash_ids": 1, "\xff": 1}')
def test_any_bytes_are_requests_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Garbage is refused with one line that names the file, or is a workload whose every request is sound."""
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(content)
    try:
        requests = list(open_trace(path))
    except TraceError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - an error is one of two right answers
        assert str(error).isprintable()  # noqa: PT017
        return
    assert requests
    assert all(earlier.arrival_ns <= later.arrival_ns for earlier, later in pairwise(requests))
    for request in requests:
        assert_sound(request)


def assert_sound(request: WorkloadRequest) -> None:
    """Check what everybody relies on."""
    assert request.request_id
    assert request.arrival_ns >= 0
    assert request.prompt.num_tokens >= 1
    assert request.output_tokens >= 1
    assert request.output_ids is None or len(request.output_ids) == request.output_tokens
