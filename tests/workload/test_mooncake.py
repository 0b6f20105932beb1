"""Mooncake traces: what a line means, and what is said of a wrong one."""

import re
from pathlib import Path

import pytest
from tests.workload.lines import mooncake, read

from understudy.engine import SegmentPrompt
from understudy.errors import TraceError
from understudy.workload import WorkloadRequest


def test_a_line_is_a_request_of_segments(tmp_path: Path) -> None:
    """Times become nanoseconds; hash ids name 512 tokens each; ids count from 0; blank lines do not."""
    requests = read(tmp_path / "t", mooncake(), "", "  ", mooncake(timestamp=5.25, extra={"ignored": [1]}))
    prompt = SegmentPrompt(600, (0, 1), 512)
    assert requests == [
        WorkloadRequest(request_id="0", arrival_ns=5_000_000, prompt=prompt, output_tokens=7),
        WorkloadRequest(request_id="1", arrival_ns=5_250_000, prompt=prompt, output_tokens=7),
    ]


@pytest.mark.parametrize("timestamp", [0, 1, 123_456_789_012, 10**12])
def test_times_are_exact(tmp_path: Path, timestamp: int) -> None:
    """No time, however late, goes through a float: a nanosecond more in the file is a nanosecond more."""
    written = f"{timestamp}.000001" if timestamp < 10**12 else str(timestamp)
    line = mooncake(timestamp="AT").replace('"AT"', written)
    (request,) = read(tmp_path / "t", line)
    assert request.arrival_ns == timestamp * 10**6 + (timestamp < 10**12)


LENGTH = "must be a positive integer of at most 16,777,216"
TIMESTAMP = "timestamp must be a number from 0 to 1,000,000,000,000"
HASH_IDS = "hash_ids must be a list of integers from 0 to 9,007,199,254,740,991"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (mooncake(input_length=-3), f"input_length {LENGTH}, got -3"),
        (mooncake(input_length=0), f"input_length {LENGTH}, got 0"),
        (mooncake(output_length=0), f"output_length {LENGTH}, got 0"),
        (mooncake(input_length=5.5), f"input_length {LENGTH}, got 5.5"),
        (mooncake(input_length=True), f"input_length {LENGTH}, got true"),
        (mooncake(input_length="5"), f'input_length {LENGTH}, got "5"'),
        (mooncake(input_length=None), f"input_length {LENGTH}, got null"),
        (mooncake(output_length=10**300), f"output_length {LENGTH}, got 1{'0' * 58}…"),
        (mooncake(output_length=...), "missing field output_length"),
        (mooncake(hash_ids=...), "missing field hash_ids"),
        (mooncake(hash_ids=[]), f"{HASH_IDS}, got []"),
        (mooncake(hash_ids=[4, -1]), f"{HASH_IDS}, got -1 at index 1"),
        (mooncake(hash_ids=[4, 2**60]), f"{HASH_IDS}, got {2**60} at index 1"),
        (mooncake(hash_ids=7), f"{HASH_IDS}, got 7"),
        (mooncake(hash_ids=[4]), "hash_ids must hold 2 ids, one for every 512 of 600 tokens, got 1"),
        (mooncake(hash_ids=[4, 5, 6]), "hash_ids must hold 2 ids, one for every 512 of 600 tokens, got 3"),
        (
            mooncake(hash_ids=[4, 4]),
            "hash_ids must hold different ids: each one names the whole prompt up to its segment",
        ),
        (mooncake(timestamp=-1), f"{TIMESTAMP}, got -1"),
        (mooncake(timestamp=1e13), f"{TIMESTAMP}, got 10000000000000.0"),
        (mooncake(timestamp="5"), f'{TIMESTAMP}, got "5"'),
        (mooncake(timestamp=None), f"{TIMESTAMP}, got null"),
        (mooncake(timestamp=1), "timestamp must not run back, got 1 after 5"),
        (mooncake(timestamp=float("nan")), "not valid JSON: JSON is malformed: invalid character (byte 14)"),
        (mooncake()[:-1], "not valid JSON: Input data was truncated"),
        ("[1, 2]", "a record must be a JSON object, got [1, 2]"),
        ('{"input_length": -1, ' + mooncake()[1:], "Expected `int` >= 1 - at `$.input_length`"),
        ('{"x": ' + "[" * 100_000, "not valid JSON: nested too deeply"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_field(tmp_path: Path, line: str, problem: str) -> None:
    """One line says which file, which line, which field, what it must be and what it is."""
    path = tmp_path / "t"
    with pytest.raises(TraceError, match="^" + re.escape(f"{path}: line 3: {problem}") + "$"):
        read(path, mooncake(), "", line)
