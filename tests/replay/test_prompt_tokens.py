"""Prompts of segments as token ids: blocks are equal exactly where the simulator takes them to be equal."""

from collections.abc import Sequence
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import CacheIdentity, HashChain, SegmentPrompt, TokenPrompt
from understudy.engine.hashing import BlockHasher
from understudy.errors import InputError, UsageError
from understudy.replay import PromptTokens
from understudy.workload import open_trace
from understudy.workload.fields import MAX_SEGMENT_ID

SEGMENT_SIZES = (12, 16, 20)


@st.composite
def prompts(draw: st.DrawFn, largest_id: int = MAX_SEGMENT_ID) -> list[SegmentPrompt]:
    """Draw prompts that share beginnings; an id names all that comes before the end of its segment."""
    size = draw(st.sampled_from(SEGMENT_SIZES))
    rng = Random(draw(st.integers(0, 1_000)))
    ids: dict[tuple[int, ...], int] = {}
    drawn = []
    for path in draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=2, max_size=6)):
        for end in range(1, len(path) + 1):
            start = tuple(path[:end])
            while start not in ids:
                # Neighbours, and ids that are equal but for their highest digits, are the hard ones.
                candidate = rng.choice(
                    (rng.randrange(60), rng.randrange(largest_id + 1), largest_id - rng.randrange(60))
                )
                if candidate not in ids.values():
                    ids[start] = candidate
        last = draw(st.integers(1, size))
        segment_ids = [ids[tuple(path[:end])] for end in range(1, len(path) + 1)]
        drawn.append(SegmentPrompt((len(path) - 1) * size + last, segment_ids, size))
    return drawn


def equalities(chains: Sequence[Sequence[object]]) -> list[bool]:
    """Return which of all blocks of all prompts are equal."""
    blocks = [block for chain in chains for block in chain]
    return [one == other for one, other in product(blocks, blocks)]


def hashes(token_ids: Sequence[int], block_size: int) -> HashChain:
    """Return the hashes that vLLM computes of a prompt."""
    chain = HashChain()
    BlockHasher("sha256", block_size).extend(chain, token_ids, CacheIdentity())
    return chain


def divisors(number: int, least: int) -> list[int]:
    """Return all block sizes that divide a segment."""
    return [size for size in range(least, number + 1) if number % size == 0]


@given(prompts(), st.sampled_from([32_000, 128_256, 1_000]))
def test_blocks_are_equal_where_their_segments_are(drawn: list[SegmentPrompt], vocabulary: int) -> None:
    """For every block size that divides the segments, the hashes of the tokens are equal where the simulator's are."""
    tokens = PromptTokens(vocabulary)
    ids = [tokens.token_ids(prompt) for prompt in drawn]
    for size in divisors(drawn[0].segment_tokens, tokens.exact_block_tokens):
        simulated = [prompt.block_hashes(size) for prompt in drawn]
        assert equalities(simulated) == equalities([hashes(each, size) for each in ids])


@given(prompts(largest_id=30_000))
def test_small_ids_need_no_more_than_one_token(drawn: list[SegmentPrompt]) -> None:
    """With fewer ids than tokens the same holds for every block size that divides, down to 1."""
    ids = [PromptTokens().token_ids(prompt) for prompt in drawn]
    for size in divisors(drawn[0].segment_tokens, 1):
        simulated = [prompt.block_hashes(size) for prompt in drawn]
        assert equalities(simulated) == equalities([hashes(each, size) for each in ids])


@given(prompts(), st.sampled_from([64, 1_000, 32_000, 1 << 20]))
def test_every_token_is_one_that_the_model_has(drawn: list[SegmentPrompt], vocabulary: int) -> None:
    """A prompt has its length, none of its tokens is among the first of the vocabulary or beyond its end."""
    for prompt in drawn:
        ids = PromptTokens(vocabulary).token_ids(prompt)
        assert len(ids) == prompt.num_tokens
        assert all(vocabulary // 32 <= token_id < vocabulary for token_id in ids)


def test_tokens_are_the_same_for_ever() -> None:
    """A segment's tokens depend on nothing but its id and the vocabulary, so that runs of different days compare."""
    assert PromptTokens().token_ids(SegmentPrompt(7, [31_005], 16)) == [
        1005,
        1001,
        1000,
        1000,
        5611,
        6833,
        18550,
    ]


def test_prompts_of_token_ids_stay_as_they_are() -> None:
    """What a trace says is sent, whatever the vocabulary."""
    assert PromptTokens(64).token_ids(TokenPrompt([1, 70_000, 2])) == [1, 70_000, 2]


def test_the_sample_contradicts_itself_nowhere() -> None:
    """In Mooncake's trace an id names all that comes before it."""
    tokens = PromptTokens()
    for request in open_trace("conversation-1k"):
        tokens.check(request.request_id, request.prompt)
    assert tokens.num_contradictions == 0


def test_contradictions_are_counted() -> None:
    """Ids that follow others than the first time are counted, each time."""
    tokens = PromptTokens()
    for ids in ([1, 2], [1, 2, 3], [4, 2], [2], [1, 2]):
        tokens.check("r", SegmentPrompt(16 * len(ids), ids, 16))
    assert tokens.num_contradictions == 2


def test_segments_too_short_for_their_ids() -> None:
    """Ids that a segment has no room to spell are refused before anything is sent."""
    tokens = PromptTokens()
    tokens.check("r", SegmentPrompt(2, [5, 30_999], 1))
    with pytest.raises(InputError, match="request 'r': segments of 1 tokens"):
        tokens.check("r", SegmentPrompt(1, [31_000], 1))


@pytest.mark.parametrize("size", [-1, 0, 63, (1 << 24) + 1])
def test_vocabularies_have_bounds(size: int) -> None:
    """Too few or absurdly many tokens are refused."""
    with pytest.raises(UsageError, match="the vocabulary must have from 64"):
        PromptTokens(size)
