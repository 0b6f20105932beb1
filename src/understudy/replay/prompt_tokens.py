"""Token ids for prompts of which a trace tells only which segments are equal, such as Mooncake's.

Equal segments become equal tokens, in any trace and on any machine. A segment begins with its id, written in the digits
of a number system whose base is the vocabulary, lowest first; the rest is noise that the id seeds. So blocks that begin
a segment differ where the segments do, and with them all blocks after: blocks are equal exactly where the simulator
takes them to be. That holds for blocks of `exact_block_tokens` and more whose size divides the segment's, and for
smaller ones as long as the ids can be told apart by so few digits.
"""

import struct
from hashlib import shake_128

from understudy.engine import Prompt, SegmentPrompt
from understudy.errors import InputError, UsageError
from understudy.tokenize import VOCABULARY_SIZE
from understudy.workload.fields import MAX_SEGMENT_ID

MIN_VOCABULARY_SIZE = 64
MAX_VOCABULARY_SIZE = 1 << 24

_PART_LEFT_OUT = 32
"""One id in so many, from 0 on, is never used: models have their special tokens there, or behind the end."""

_ID_BYTES = 8
_NOISE_BYTES = 4


class PromptTokens:
    """Gives the prompts of one trace as token ids below `vocabulary_size`; prompts that have ids keep them.

    `num_contradictions` counts segments that follow other segments than the first prompt with their id had before them.
    An id names the whole prompt up to its segment, so such a trace contradicts itself; tokens then differ where ids do not.

    Raises UsageError for a size out of bounds.
    """

    def __init__(self, vocabulary_size: int = VOCABULARY_SIZE) -> None:
        if not MIN_VOCABULARY_SIZE <= vocabulary_size <= MAX_VOCABULARY_SIZE:
            raise UsageError(
                f"the vocabulary must have from {MIN_VOCABULARY_SIZE} to {MAX_VOCABULARY_SIZE:,} tokens, "
                f"got {vocabulary_size:,}"
            )
        self.num_contradictions = 0
        self._first_id = vocabulary_size // _PART_LEFT_OUT
        self._base = vocabulary_size - self._first_id
        self.exact_block_tokens = next(count for count in range(1, 54) if self._base**count > MAX_SEGMENT_ID)
        self._segment_before: dict[int, int | None] = {}

    def check(self, request_id: str, prompt: Prompt) -> None:
        """Look at a prompt before it is wanted. Raises InputError for segments too short to tell their ids apart."""
        if not isinstance(prompt, SegmentPrompt):
            return
        before: int | None = None
        for segment_id in prompt.segment_ids:
            if segment_id >= self._base**prompt.segment_tokens:
                raise InputError(
                    f"request {request_id!r}: segments of {prompt.segment_tokens} tokens out of a vocabulary of "
                    f"{self._base + self._first_id:,} cannot be as many as the segment id {segment_id:,} says"
                )
            if self._segment_before.setdefault(segment_id, before) != before:
                self.num_contradictions += 1
            before = segment_id

    def token_ids(self, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt that was checked."""
        if not isinstance(prompt, SegmentPrompt):
            return list(prompt.token_ids)
        ids: list[int] = []
        for segment_id in prompt.segment_ids:
            ids += self._segment(segment_id, min(prompt.segment_tokens, prompt.num_tokens - len(ids)))
        return ids

    def _segment(self, segment_id: int, num_tokens: int) -> list[int]:
        first, base = self._first_id, self._base
        digits = []
        number = segment_id
        for _ in range(min(self.exact_block_tokens, num_tokens)):
            number, digit = divmod(number, base)
            digits.append(first + digit)
        num_others = num_tokens - len(digits)
        seed = segment_id.to_bytes(_ID_BYTES, "little")
        noise = struct.unpack(f"<{num_others}I", shake_128(seed).digest(_NOISE_BYTES * num_others))
        return digits + [first + value % base for value in noise]
