"""Laws of block hashes: a hash names everything that a block's contents depend on, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import (
    BlockHash,
    BlockHasher,
    CacheIdentity,
    HashChain,
    LoRA,
    MultiModalItem,
    SegmentPrompt,
)
from understudy.engine.config import HASH_ALGORITHMS, HashAlgorithm

TEXT = CacheIdentity()
TOKENS = st.lists(st.integers(0, 2**31), max_size=40)
BLOCK_SIZES = st.integers(1, 9)


def _hashes(
    token_ids: list[int], block_size: int, identity: CacheIdentity = TEXT, algorithm: HashAlgorithm = "sha256"
) -> list[BlockHash]:
    hashes = HashChain()
    BlockHasher(algorithm, block_size).extend(hashes, token_ids, identity)
    return list(hashes)


@given(
    tokens=TOKENS,
    block_size=BLOCK_SIZES,
    cuts=st.lists(st.integers(0, 40)),
    algorithm=st.sampled_from(HASH_ALGORITHMS),
)
def test_hashing_as_tokens_come_equals_hashing_at_once(
    tokens: list[int], block_size: int, cuts: list[int], algorithm: HashAlgorithm
) -> None:
    """A partial block is not hashed, and hashes once made stay."""
    hasher = BlockHasher(algorithm, block_size)
    grown = HashChain()
    for cut in [*sorted(cuts), len(tokens)]:
        hasher.extend(grown, tokens[:cut], TEXT)
    assert list(grown) == _hashes(tokens, block_size, algorithm=algorithm)
    assert len(grown) == len(tokens) // block_size


@given(tokens=TOKENS.filter(len), block_size=BLOCK_SIZES, data=st.data())
def test_a_token_decides_its_block_and_all_later_ones(
    tokens: list[int], block_size: int, data: st.DataObject
) -> None:
    """Blocks before the changed token keep their hashes, all others get new ones."""
    position = data.draw(st.integers(0, len(tokens) - 1))
    changed = [*tokens[:position], tokens[position] + 1, *tokens[position + 1 :]]
    pairs = zip(_hashes(tokens, block_size), _hashes(changed, block_size), strict=True)
    assert [one == other for one, other in pairs] == [
        end <= position for end in range(block_size, len(tokens) + 1, block_size)
    ]


@pytest.mark.parametrize("algorithm", HASH_ALGORITHMS)
def test_each_identity_has_blocks_of_its_own(algorithm: HashAlgorithm) -> None:
    """Salts, adapters (by name and by path) and images (by identity and by place) never share a block."""
    identities = [
        TEXT,
        CacheIdentity(salt="a"),
        CacheIdentity(salt="b"),
        CacheIdentity(lora=LoRA("a", "/one")),
        CacheIdentity(lora=LoRA("b", "/one")),
        CacheIdentity(lora=LoRA("a", "/two")),
        CacheIdentity(items=(MultiModalItem("a", 0, 2),)),
        CacheIdentity(items=(MultiModalItem("b", 0, 2),)),
        CacheIdentity(items=(MultiModalItem("a", 1, 2),)),
    ]
    tokens = list(range(12))
    seen = [block_hash for identity in identities for block_hash in _hashes(tokens, 4, identity, algorithm)]
    assert len(seen) == len(set(seen)) == 3 * len(identities)


@given(offset=st.integers(0, 30), length=st.integers(1, 30), block=st.integers(0, 15), block_size=BLOCK_SIZES)
def test_an_item_counts_in_exactly_the_blocks_that_it_touches(
    offset: int, length: int, block: int, block_size: int
) -> None:
    """Its place is told relative to the start of the block."""
    identity = CacheIdentity(items=(MultiModalItem("image", offset, length),))
    start = block * block_size
    touches = bool(set(range(offset, offset + length)) & set(range(start, start + block_size)))
    expected = (("mm", "image", offset - start),) if touches else None
    assert identity.extra_keys(start, start + block_size) == expected


@given(
    shared=st.integers(0, 6),
    own=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    unused=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    block_size=BLOCK_SIZES,
)
def test_segment_prompts_share_exactly_their_common_prefix(
    shared: int, own: tuple[int, int], unused: tuple[int, int], block_size: int
) -> None:
    """A block of a prompt that is told by segments is shared if and only if its last token lies in a shared segment."""
    segment_tokens = 7
    hashes = []
    for prompt in range(2):
        ids = [*range(shared), *range(100 * (prompt + 1), 100 * (prompt + 1) + own[prompt])]
        num_tokens = len(ids) * segment_tokens - unused[prompt]
        hashes.append(SegmentPrompt(num_tokens, ids, segment_tokens).block_hashes(block_size))
        assert len(hashes[-1]) == len(set(hashes[-1])) == num_tokens // block_size
    num_shared = min(shared * segment_tokens // block_size, len(hashes[0]), len(hashes[1]))
    assert hashes[0][:num_shared] == hashes[1][:num_shared]
    assert set(hashes[0][num_shared:]).isdisjoint(hashes[1])
