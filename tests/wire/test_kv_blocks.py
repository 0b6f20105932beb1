"""Laws of lists of blocks as bytes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.wire.kv_blocks import BlockList, BlockListError, RankBlocks, kv_blocks_body, read_kv_blocks

RANKS = st.builds(
    RankBlocks,
    rank=st.integers(0, 100),
    sequence=st.none() | st.integers(0, 2**63),
    running=st.integers(0, 1000),
    waiting=st.integers(0, 1000),
    kv_usage=st.floats(0, 1),
    blocks=st.lists(st.integers(0, 2**64 - 1), max_size=10),
)


@given(ranks=st.lists(RANKS, max_size=3))
def test_what_is_written_is_read(ranks: list[RankBlocks]) -> None:
    """And all blocks are those of the ranks, copies included."""
    listed = BlockList(block_size=16, hash_algo="sha256", ranks=ranks)
    assert read_kv_blocks(kv_blocks_body(listed)) == listed
    assert len(listed.blocks) == sum(len(rank.blocks) for rank in ranks)


@given(
    body=st.binary(max_size=40) | st.dictionaries(st.text(), st.integers(0, 9)).map(msgspec.msgpack.encode)
)
def test_what_is_no_list_is_one_error(body: bytes) -> None:
    """Whatever a worker sends."""
    with pytest.raises(BlockListError, match=r"^malformed list of KV blocks: "):
        read_kv_blocks(body)
