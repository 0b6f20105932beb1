"""Only words that survive being decoded and encoded become answers."""

from collections.abc import Sequence
from itertools import product

import tokenizers
from tokenizers import models, pre_tokenizers

from understudy.tokenize import load_tokenizer
from understudy.tokenize.answer_words import self_encoding_words

WORDS = [f"Ġzz{one}{two}" for one, two in product("abcdefghijklmno", repeat=2)]
IDS = {word: token_id for token_id, word in enumerate(WORDS)}
MERGED = len(WORDS)


def _decode(ids: Sequence[int]) -> str:
    return " ".join(WORDS[token_id] for token_id in ids)


def test_words_that_merge_with_others_are_left_out() -> None:
    """A word that merges with itself goes; one that merges with any other goes, and others stay."""
    with_itself, with_others = 3, 7

    def encode(text: str) -> list[int]:
        ids = [IDS[word] for word in text.split()]
        merges = ids == [with_itself, with_itself] or (with_others in ids and len(set(ids)) > 1)
        return [MERGED] if merges else ids

    found = self_encoding_words(IDS, frozenset({5}), encode, _decode)
    assert {with_itself, with_others, 5}.isdisjoint(found)
    assert len(found) > len(WORDS) // 2


def test_where_nothing_survives_nothing_is_found() -> None:
    """A tokenizer that never gives back its ids has no words for answers."""
    assert not self_encoding_words(IDS, frozenset(), lambda _: [MERGED], _decode)


def test_words_without_a_marker_of_spaces_are_found() -> None:
    """A vocabulary whose decoder puts the spaces has plain words, of which parts of words are none."""
    vocabulary = {"[UNK]": 0, "cat": 1, "dog": 2, "##ing": 3, "a": 4}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    found = self_encoding_words(
        vocabulary, frozenset({0}), lambda text: tokenizer.encode(text).ids, tokenizer.decode
    )
    assert found == (1, 2)


def test_english_words_come_first() -> None:
    """Where a vocabulary has a thousand of them, other strings of letters are no words."""
    offline = load_tokenizer()
    english = [offline.token_text(token_id).replace(" ", "Ġ") for token_id in offline.answer_token_ids()]
    texts = [*WORDS, *(word for word in english if len(word) > 2)]
    ids = {text: token_id for token_id, text in enumerate(texts)}
    found = self_encoding_words(
        ids,
        frozenset(),
        lambda text: [ids[word] for word in text.split()],
        lambda token_ids: " ".join(texts[token_id] for token_id in token_ids),
    )
    assert len(found) >= 1_000
    assert min(found) >= len(WORDS)
