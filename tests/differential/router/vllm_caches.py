"""What each vLLM must hold in its cache, told from the tokens alone: nothing is hashed here, and nothing is evicted."""

from collections.abc import Sequence

BLOCK_TOKENS = 16

FIRST_SAMPLED = 280
NUM_SAMPLED = 300
"""How `judge/no_gpu.py` samples."""


class VllmCache:
    """One server's cache: its blocks, known by their salt and by all tokens up to their end."""

    def __init__(self) -> None:
        self._held: set[tuple[str | None, tuple[int, ...]]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Drop all blocks."""
        self._held.clear()

    def usable_tokens(self, prompt: Sequence[int], salt: str | None) -> int:
        """Return how many tokens of a prompt need not be computed; the last one is in any case."""
        usable = 0
        while usable + BLOCK_TOKENS < len(prompt) and self._holds(prompt[: usable + BLOCK_TOKENS], salt):
            usable += BLOCK_TOKENS
        return usable

    def computed(self, prompt: Sequence[int], salt: str | None, num_answered: int) -> None:
        """Note a request that is done; the last token of its answer is not computed."""
        tokens = [*prompt, *answer_to(prompt, num_answered - 1)]
        for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
            self._held.add((salt, tuple(tokens[:end])))

    def _holds(self, tokens: Sequence[int], salt: str | None) -> bool:
        return (salt, tuple(tokens)) in self._held


def answer_to(prompt: Sequence[int], num_tokens: int) -> list[int]:
    """Return the tokens that the judge answers to a prompt."""
    return [FIRST_SAMPLED + (len(prompt) + index) % NUM_SAMPLED for index in range(num_tokens)]
