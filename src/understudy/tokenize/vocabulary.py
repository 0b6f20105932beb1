"""The vocabulary of the offline tokenizer: 32,000 pieces of text, made by rule and from short lists of English.

The order is fixed, so an id means the same on every machine: special tokens, the 256 bytes, white space and
punctuation, numbers, words, parts of words. It is chosen so that English prose costs about as many tokens as with
a trained byte-pair encoding of that size; every other text is covered by its bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from string import ascii_lowercase, ascii_uppercase, digits, punctuation

VOCABULARY_SIZE = 32_000
"""Ids are smaller than this, which is Llama 2's vocabulary, so that larger models know them too."""

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
"""Ids 0 to 2, as in Llama 2. No text encodes to them."""

BOS_TOKEN_ID = 1
EOS_TOKEN_ID = 2
FIRST_BYTE_ID = len(SPECIAL_TOKENS)

_NUM_BYTES = 256
_LONGEST_INDENT = 32
_MOST_LINE_ENDS = 4
_REPEATED_PUNCTUATION = "-=*#_.~/+<>!?"
_REPETITIONS = (2, 3, 4, 8, 16)
_PUNCTUATION_PAIRS = """
    () (" (' [] [" [' {} {" {' ", ". ": "; ") '] "] '} "} ', '. ') ); ), ). ): )) ]) )] }) }} {{ ]] [[ ], ]. }; },
    ." .' ," ,' .) ?" !" :: := == != <= >= => -> <- += -= *= /= && || // /* */ </ /> "> '> <! -- ?) !) `, `. ;; "=
    =" \\n \\" \\\\ $( ${ #{ %s @{ (* *) [^ (- (_ __
"""
# Latin letters with marks, Greek, Cyrillic, kana, and the marks of typography: one token each, else two or three bytes.
_WHOLE_CHARACTERS = (
    (0xA1, 0x180),
    (0x391, 0x3CA),
    (0x410, 0x450),
    (0x3041, 0x3094),
    (0x30A1, 0x30F7),
    (0x2010, 0x2028),
    (0x2030, 0x203B),
    (0x20AC, 0x20AD),
    (0x3001, 0x3012),
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`pieces[id]` is the UTF-8 of a token, `ids` finds it by its text; `word_ids` are words with a space before."""

    pieces: tuple[bytes, ...]
    ids: dict[str, int]
    word_ids: tuple[int, ...]


@cache
def vocabulary() -> Vocabulary:
    """Return the one vocabulary, made at the first call."""
    ids = {chr(byte): FIRST_BYTE_ID + byte for byte in range(128)}
    pieces = [token.encode() for token in SPECIAL_TOKENS]
    pieces += [bytes([byte]) for byte in range(_NUM_BYTES)]
    for text in _texts():
        if len(pieces) == VOCABULARY_SIZE:
            break
        if text not in ids:
            ids[text] = len(pieces)
            pieces.append(text.encode())
    assert len(pieces) == VOCABULARY_SIZE
    words = dict.fromkeys(word for name in ("commonest_words", "common_words") for word in _listed(name))
    return Vocabulary(tuple(pieces), ids, tuple(ids[f" {word}"] for word in words if word.islower()))


def _texts() -> Iterator[str]:
    """Yield all texts beside single bytes, the most useful first; the last ones fill the vocabulary."""
    yield from _white_space()
    yield from _punctuation()
    yield from ("".join(number) for length in (2, 3) for number in product(digits, repeat=length))
    yield from (chr(code) for start, end in _WHOLE_CHARACTERS for code in range(start, end))
    yield from (
        f"{quote}{ending}"
        for quote in "'\N{RIGHT SINGLE QUOTATION MARK}"
        for ending in ("s", "t", "re", "ve", "m", "ll", "d")
    )
    for word in _listed("commonest_words"):
        yield from (f" {word}", word, f" {word.capitalize()}", word.capitalize())
    yield from (f" {word}" for word in _listed("common_words"))
    yield from (f" {start}" for start in _listed("word_starts"))
    yield from _listed("word_endings")
    for length in (1, 2):
        for letters in product(ascii_lowercase, repeat=length):
            text = "".join(letters)
            yield from (f" {text}", f" {text.capitalize()}")
    yield from ("".join(letters) for length in (2, 3) for letters in product(ascii_lowercase, repeat=length))
    yield from ("".join(letters) for letters in product(ascii_uppercase, repeat=2))


def _white_space() -> Iterator[str]:
    for line_ends in range(_MOST_LINE_ENDS + 1):
        yield from (
            "\n" * line_ends + " " * spaces for spaces in range(_LONGEST_INDENT) if line_ends + spaces
        )
        yield from ("\n" * line_ends + "\t" * tabs for tabs in range(1, _MOST_LINE_ENDS))
    yield from ("\r\n" * line_ends for line_ends in range(1, 4))


def _punctuation() -> Iterator[str]:
    yield from (f" {mark}" for mark in punctuation)
    yield from (mark * length for mark in _REPEATED_PUNCTUATION for length in _REPETITIONS)
    for pair in _PUNCTUATION_PAIRS.split():
        yield from (pair, f" {pair}")


def _listed(name: str) -> list[str]:
    return (files("understudy.tokenize") / "data" / f"{name}.txt").read_text(encoding="utf-8").split()
