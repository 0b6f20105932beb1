"""vLLM starts only if all blocks but the null block hold one request of the longest length."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.catalog import check_context_fits
from understudy.errors import UsageError


def _fits(num_gpu_blocks: int, block_size: int, max_model_len: int) -> bool:
    try:
        check_context_fits(num_gpu_blocks, block_size, max_model_len)
    except UsageError:
        return False
    return True


@given(blocks=st.integers(2, 10_000), block_size=st.integers(1, 256), excess=st.integers(1, 10**6))
def test_the_longest_context_fills_all_usable_blocks(blocks: int, block_size: int, excess: int) -> None:
    """It fits; any more does not, and the error names it with the flags that help."""
    longest = (blocks - 1) * block_size
    assert _fits(blocks, block_size, longest)
    with pytest.raises(UsageError) as caught:
        check_context_fits(blocks, block_size, longest + excess)
    message = str(caught.value)
    assert re.search(rf"--max-model-len to at most {longest}\b", message)
    assert f"max_model_len ({longest + excess})" in message
    assert "--gpu-memory-utilization" in message


@given(blocks=st.integers(1, 1000), block_size=st.integers(1, 64), length=st.integers(1, 64_000))
def test_a_started_block_counts_whole(blocks: int, block_size: int, length: int) -> None:
    """A length fits exactly when its blocks, laid one by one, are no more than the usable ones."""
    needed = len(range(0, length, block_size))
    assert _fits(blocks, block_size, length) == (needed < blocks)


def test_the_null_block_alone_holds_nothing() -> None:
    """The error does not suggest a length of zero."""
    with pytest.raises(UsageError, match="none is usable") as caught:
        check_context_fits(1, 16, 1)
    assert "--max-model-len" not in str(caught.value)
