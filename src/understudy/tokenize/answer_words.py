"""Which tokens of a real tokenizer a dummy answer may be made of: any sequence of them encodes to itself again."""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from understudy.tokenize import vocabulary as offline

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]

_SPACE_MARKERS = "Ġ▁"  # of byte-level and of SentencePiece vocabularies
_KINDS_OF_WORDS = (
    re.compile(f"[{_SPACE_MARKERS}][a-z]{{2,}}"),
    re.compile("[a-z]{2,}"),  # whole words of a WordPiece vocabulary
)
_ENOUGH_WORDS = 1_000
_MOST_CANDIDATES = 2_000  # trained vocabularies begin with what is frequent
_SHUFFLES = 3
_CHAIN_TOKENS = 50


def self_encoding_words(
    vocabulary: Mapping[str, int], special_ids: frozenset[int], encode: Encode, decode: Decode
) -> tuple[int, ...]:
    """Return ids of whole words that survive decoding and encoding in any order tried; empty if none does.

    Each is tried after itself and in shuffled chains; of a chain that does not survive none is taken.
    """
    for words in _KINDS_OF_WORDS:
        candidates = _candidates(words, vocabulary, special_ids)
        survivors = [token_id for token_id in candidates if _survives([token_id, token_id], encode, decode)]
        order = random.Random(0)
        for _ in range(_SHUFFLES):
            order.shuffle(survivors)
            chains = [
                survivors[start : start + _CHAIN_TOKENS] for start in range(0, len(survivors), _CHAIN_TOKENS)
            ]
            survivors = [
                token_id for chain in chains if _survives(chain, encode, decode) for token_id in chain
            ]
        if survivors:
            return tuple(sorted(survivors))
    return ()


def _candidates(
    words: re.Pattern[str], vocabulary: Mapping[str, int], special_ids: frozenset[int]
) -> list[int]:
    """Return the ids that look like words, only of English ones if there are enough of them."""
    found = {
        token_id: token.lstrip(_SPACE_MARKERS)
        for token, token_id in vocabulary.items()
        if words.fullmatch(token) and token_id not in special_ids
    }
    known = {
        offline.vocabulary().pieces[token_id].decode().strip() for token_id in offline.vocabulary().word_ids
    }
    english = {token_id for token_id, word in found.items() if word in known}
    return sorted(english if len(english) >= _ENOUGH_WORDS else found)[:_MOST_CANDIDATES]


def _survives(token_ids: list[int], encode: Encode, decode: Decode) -> bool:
    return encode(decode(token_ids)) == token_ids
