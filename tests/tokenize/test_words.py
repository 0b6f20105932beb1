"""The laws of the stand-in tokenizer."""

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.tokenize import VOCABULARY_SIZE, encode


@settings(deadline=None)
@given(st.text())
def test_every_text_has_ids_within_the_vocabulary(text: str) -> None:
    """Any text at all becomes ids, none only if it is empty, and at most one for each character."""
    ids = encode(text)
    assert all(0 <= token_id < VOCABULARY_SIZE for token_id in ids)
    assert bool(ids) == bool(text)
    assert len(ids) <= len(text)


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_text_cut_at_the_end_of_a_word_gives_the_first_ids(start: str, rest: str) -> None:
    """Texts that share their first words share their first ids."""
    words = start.rstrip()
    ids = encode(words)
    assert encode(f"{words} {rest}")[: len(ids)] == ids


@settings(deadline=None)
@given(st.text(alphabet=st.characters(categories=["Cs"]), min_size=1))
def test_half_a_surrogate_pair_is_no_error(text: str) -> None:
    """Text that has no UTF-8 form is still text."""
    assert encode(text)


def test_words_are_told_apart() -> None:
    """Of a thousand different words, few share an id: about n^2/2V pairs do if the hash is even."""
    words = [
        f"{first}{second}{third}"
        for first in "abcdefghij"
        for second in "klmnopqrst"
        for third in "uvwxyzabcd"
    ]
    distinct = {tuple(encode(word)) for word in words}
    expected_shared = len(words) ** 2 / (2 * VOCABULARY_SIZE)
    assert len(words) - len(distinct) < 3 * expected_shared
