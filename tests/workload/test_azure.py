"""Azure traces: what a row means, and what is said of a wrong one."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workload.lines import AZURE_HEADER, read

from understudy.engine import SegmentPrompt
from understudy.errors import TraceError
from understudy.workload.azure import AzureParser

ROW = "2023-11-16 18:17:03.9799600,4808,10"


def test_times_count_from_the_first_row(tmp_path: Path) -> None:
    """A timestamp has seven decimals and no zone (2023), or a zone (2024); line ends may be Windows'."""
    requests = read(
        tmp_path / "t",
        AZURE_HEADER + "\r",
        ROW + "\r",
        "2023-11-16 18:17:04.0319601,3180,8",
        "2023-11-16 18:17:05,1,1",
        "2023-11-16 19:17:05.5+01:00,1,1",
        "2023-11-17 18:17:03.979960000+00:00,1,1",
    )
    assert [request.arrival_ns for request in requests] == [
        0,
        52_000_100,
        1_020_040_000,
        1_520_040_000,
        24 * 3600 * 10**9,
    ]
    assert [(request.prompt.num_tokens, request.output_tokens) for request in requests[:2]] == [
        (4808, 10),
        (3180, 8),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=6), st.sampled_from([1, 16, 512]))
def test_no_two_prompts_share_a_block(lengths: list[int], block_size: int) -> None:
    """Nothing is known of the prompts' content, so no cache can find any of it."""
    parser = AzureParser()
    hashes = []
    for length in lengths:
        request = parser.parse(f"2023-11-16 18:17:03,{length},1".encode())
        assert isinstance(request.prompt, SegmentPrompt)
        hashes.append(set(request.prompt.block_hashes(block_size)))
        assert len(hashes[-1]) == length // block_size
    assert all(one.isdisjoint(other) for one, other in combinations(hashes, 2))


COUNT = "must be a positive integer of at most 16,777,216"
TIME = "TIMESTAMP must look like 2023-11-16 18:17:03.9799600"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("2023-11-16 18:17:04,1", "a row must have 3 columns, got 2"),
        ("2023-11-16 18:17:04,1,2,3", "a row must have 3 columns, got 4"),
        ("2023-11-16 18:17:04,0,2", f"ContextTokens {COUNT}, got '0'"),
        ("2023-11-16 18:17:04,-1,2", f"ContextTokens {COUNT}, got '-1'"),
        ("2023-11-16 18:17:04,1,2.5", f"GeneratedTokens {COUNT}, got '2.5'"),
        ("2023-11-16 18:17:04,1,", f"GeneratedTokens {COUNT}, got ''"),
        ("2023-11-16 18:17:04,1,٣", f"GeneratedTokens {COUNT}, got '٣'"),
        ("2023-11-16 18:17:04,16777217,1", f"ContextTokens {COUNT}, got '16777217'"),
        (f"2023-11-16 18:17:04,{'9' * 5000},1", f"ContextTokens {COUNT}, got '{'9' * 59}…'"),
        ("yesterday,1,2", f"{TIME}, got 'yesterday'"),
        ("2023-02-30 18:17:04,1,2", f"{TIME}, got '2023-02-30 18:17:04'"),
        ("2023-11-16 18:17:04+99:00,1,2", f"{TIME}, got '2023-11-16 18:17:04+99:00'"),
        (
            "2023-11-16 18:17:03.9799599,1,2",
            "TIMESTAMP must not run back, got 2023-11-16 18:17:03.9799599 after 2023-11-16 18:17:03.9799600",
        ),
        (
            "2099-11-16 18:17:04,1,2",
            "TIMESTAMP must be within 31 years of the first, got 2099-11-16 18:17:04",
        ),
    ],
)
def test_a_wrong_row_is_told_by_its_number_and_column(tmp_path: Path, row: str, problem: str) -> None:
    """One line says which file, which line, which column, what it must be and what it is."""
    path = tmp_path / "t"
    with pytest.raises(TraceError, match="^" + re.escape(f"{path}: line 3: {problem}") + "$"):
        read(path, AZURE_HEADER, ROW, row)
