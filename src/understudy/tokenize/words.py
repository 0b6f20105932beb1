"""A reversible tokenizer without a vocabulary file, for where no real tokenizer is at hand.

Text is cut into pieces as the pre-tokenizers of byte-pair encodings cut it: a word with the space before it, up
to three digits, a run of punctuation, white space. A piece that is in the vocabulary is one token, another one is
covered by the longest tokens from its start. A real tokenizer cuts elsewhere, so its **counts differ** from these:
use token ids or lengths where exact counts matter. What does hold is what prefix caching needs. The same text
always gives the same ids, on every machine. And a text cut at the end of a word gives the first ids of the whole
text.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from understudy.tokenize.chat import plain_prompt, templated_content_format, templated_prompt
from understudy.tokenize.tokenizer import ContentFormat, Message
from understudy.tokenize.vocabulary import (
    BOS_TOKEN_ID,
    EOS_TOKEN_ID,
    FIRST_BYTE_ID,
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    vocabulary,
)

_PIECE = re.compile(
    r"""
      ['\u2019](?:s|t|re|ve|m|ll|d)(?![^\W_])  # the end of "it's" and "don't"
    | [ ]?[^\W\d_]{1,20}                       # letters; what is longer becomes several pieces
    | \d{1,3}
    | [ ]?(?:[^\w\s]|_){1,16}
    | \s{1,64}(?!\S)                           # white space, but for the space that goes with the next word
    | \s
    """,
    re.VERBOSE,
)
_MOST_KNOWN_PIECES = 1 << 17
_MOST_PENDING_BYTES = 3  # of a character that a prompt leaves unfinished


def encode(text: str) -> list[int]:
    """Return the offline token ids of a text."""
    return words_tokenizer().encode(text)


@cache
def words_tokenizer() -> "WordsTokenizer":
    """Return the offline tokenizer, made at the first call."""
    return WordsTokenizer()


class WordsTokenizer:
    """The offline tokenizer behind the same interface as real ones. It adds no special tokens to a text."""

    name = "words"
    vocabulary_size = VOCABULARY_SIZE
    bos_token_id = BOS_TOKEN_ID
    eos_token_id = EOS_TOKEN_ID

    def __init__(self) -> None:
        self.max_characters_per_token = max(map(len, vocabulary().ids))
        self._known = _Pieces()
        self._pieces = dict(enumerate(vocabulary().pieces))
        self._ordinary_pieces = {
            token_id: piece for token_id, piece in self._pieces.items() if not self.is_special(token_id)
        }
        self._texts = {
            token_id: vocabulary().pieces[token_id].decode() for token_id in vocabulary().ids.values()
        }

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - there are none
        """Return the ids of any text. The text of a special token is text like any other."""
        return list(chain.from_iterable(map(self._known.__getitem__, _PIECE.findall(text))))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ids; it inverts `encode`."""
        pieces = self._ordinary_pieces if skip_special_tokens else self._pieces
        return b"".join([pieces.get(token_id, b"") for token_id in token_ids]).decode("utf-8", "replace")

    def token_string(self, token_id: int) -> str:
        """Return a token as SentencePiece shows it: `▁` for a space, `<0xE2>` for a byte that is no character."""
        text = self._texts.get(token_id)
        if text is not None:
            return text.replace(" ", "▁")
        if self.is_special(token_id):
            return SPECIAL_TOKENS[token_id]
        piece = self._pieces.get(token_id)
        return "" if piece is None else f"<0x{piece[0]:02X}>"

    def token_text(self, token_id: int) -> str:
        """Return the text of one token."""
        return self.decode([token_id], skip_special_tokens=False)

    def is_special(self, token_id: int) -> bool:
        """Tell whether it is one of the first three."""
        return 0 <= token_id < len(SPECIAL_TOKENS)

    def stream(
        self,
        *,
        skip_special_tokens: bool = True,
        spaces_between_special_tokens: bool = True,  # noqa: ARG002 - no spaces are put between them
        prompt_token_ids: Sequence[int] = (),
    ) -> "WordsStream":
        """Return a new stream; of the prompt it matters only which bytes of a character it ends with."""
        pieces = self._ordinary_pieces if skip_special_tokens else self._pieces
        stream = WordsStream(self._texts, pieces)
        for token_id in prompt_token_ids[-_MOST_PENDING_BYTES:]:
            stream.add(token_id)
        return stream

    def answer_token_ids(self) -> Sequence[int]:
        """Return the ids of all words in lower case with a space before them."""
        return vocabulary().word_ids

    def content_format(self, chat_template: str | None = None, *, has_tools: bool = False) -> ContentFormat:  # noqa: ARG002 - one form for all
        """Return what a given template wants; its own form takes both."""
        return "string" if chat_template is None else templated_content_format(chat_template)

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt in a plain form of its own, or by the given template."""
        if chat_template is None:
            return plain_prompt(
                messages,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=tools,
            )
        names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL_TOKENS, strict=True))
        return templated_prompt(
            chat_template,
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            special_tokens=names,
            kwargs=kwargs,
        )


class WordsStream:
    """Text token by token: a look-up, but for characters that several tokens make together."""

    __slots__ = ("_decoder", "_pending", "_pieces", "_texts")

    def __init__(self, texts: Mapping[int, str], pieces: Mapping[int, bytes]) -> None:
        self._texts = texts
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = False

    def add(self, token_id: int) -> str:
        """Return the text that has become certain."""
        if not self._pending:
            text = self._texts.get(token_id)
            if text is not None:
                return text
        text = self._decoder.decode(self._pieces.get(token_id, b""))
        self._pending = bool(self._decoder.getstate()[0])
        return text


class _Pieces(dict[str, tuple[int, ...]]):
    """The ids of each piece seen so far, within bounds."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = vocabulary().ids
        self._longest: dict[str, int] = {}
        for text in self._ids:
            self._longest[text[0]] = max(self._longest.get(text[0], 0), len(text))

    def __missing__(self, piece: str) -> tuple[int, ...]:
        whole = self._ids.get(piece)
        ids = self._cover(piece) if whole is None else (whole,)
        if len(self) >= _MOST_KNOWN_PIECES:
            self.clear()
        self[piece] = ids
        return ids

    def _cover(self, piece: str) -> tuple[int, ...]:
        ids: list[int] = []
        start = 0
        while start < len(piece):
            longest = min(self._longest.get(piece[start], 0), len(piece) - start)
            for length in range(longest, 0, -1):
                token_id = self._ids.get(piece[start : start + length])
                if token_id is not None:
                    ids.append(token_id)
                    start += length
                    break
            else:
                ids += [FIRST_BYTE_ID + byte for byte in piece[start].encode("utf-8", "surrogatepass")]
                start += 1
        return tuple(ids)
