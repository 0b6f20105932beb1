"""What a request asks the engine to read: token ids, or, from traces that hide them, ids of equal segments.

The engine needs no more than a length and a chain of block hashes; both kinds of prompt give them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


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

    def block_hashes(self, block_size: int) -> list[int]:
        """Return one integer for each full block of `block_size` tokens; equal integers, equal prefixes.

        The integer is the position of the block's last token, counted within all segments ever named.
        """
        hashes: list[int] = []
        size = self.segment_tokens
        for index, segment_id in enumerate(self.segment_ids):
            start = index * size
            first_end = start + block_size - start % block_size
            last_end = min(start + size, self.num_tokens)
            shift = (segment_id - index) * size - 1
            hashes.extend(range(first_end + shift, last_end + shift + 1, block_size))
        return hashes


Prompt = TokenPrompt | SegmentPrompt
