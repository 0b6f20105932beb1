"""A tokenizer without a vocabulary file: cuts text into short pieces and hashes each into a token id.

The pieces imitate the pre-tokenizers of byte-pair encodings: a word with the space before it, up to three
digits, a run of punctuation, white space. A real tokenizer cuts elsewhere, so its **counts differ** from
these: use token ids or lengths where exact counts matter. What does hold is what prefix caching needs. The
same text always gives the same ids, on every machine. And a text cut at the end of a word gives the first ids
of the whole text.
"""

import re
from zlib import crc32

VOCABULARY_SIZE = 32_000
"""Ids are smaller than this, which is Llama 2's vocabulary, so that larger models know them too."""

_PIECE = re.compile(
    r"""
      [ ]?[^\W\d_]{1,8}     # letters; a longer word becomes several pieces
    | \d{1,3}
    | [ ]?(?:[^\w\s]|_){1,4}
    | \s+(?!\S)             # white space, but for the space that goes with the next word
    | \s
    """,
    re.VERBOSE,
)


def encode(text: str) -> list[int]:
    """Return the token ids of a text. Different pieces may share an id: there are more pieces than ids."""
    return [crc32(piece.encode("utf-8", "surrogatepass")) % VOCABULARY_SIZE for piece in _PIECE.findall(text)]
