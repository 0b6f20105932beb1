"""What a request asks the engine to read: token ids, or, from traces that hide them, ids of equal segments.

The engine needs no more than a length and a chain of block hashes; both kinds of prompt give them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.engine.hash_chain import HashChain


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt whose token ids are known."""

    token_ids: Sequence[int]

    @property
    def num_tokens(self) -> int:
        """Length in tokens."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class SegmentPrompt:
    """A prompt of which only the identity of each `segment_tokens` long piece is known.

    `segment_ids[i]` names the tokens from the start of the prompt to the end of segment i: two prompts
    with the same id at i are equal up to there (the convention of the Mooncake traces). Ids differ and are not
    negative. The last segment may be partly filled: `num_tokens` says how far the prompt reaches.
    """

    num_tokens: int
    segment_ids: Sequence[int]
    segment_tokens: int

    def block_hashes(self, block_size: int) -> HashChain:
        """Return the hashes of the full blocks of `block_size` tokens; equal hashes, equal prefixes.

        A run are the blocks that end in one segment. The hash is the number of the block within all segments ever named,
        were each to hold as many as fit in any.
        """
        hashes = HashChain()
        most_blocks = -(-self.segment_tokens // block_size)
        for index, segment_id in enumerate(self.segment_ids):
            end_tokens = min((index + 1) * self.segment_tokens, self.num_tokens)
            hashes.extend_run(segment_id * most_blocks, end_tokens // block_size)
        return hashes


Prompt = TokenPrompt | SegmentPrompt
