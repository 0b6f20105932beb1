"""A real model's tokenizer from its files, by the `tokenizers` package, as vLLM 0.33 uses it.

Text streams are those of vLLM's fast incremental detokenizer, with its start from the prompt, its suppression of
spaces between added tokens and its fresh start after output that no longer extends itself.
(vllm/v1/engine/detokenizer.py, vllm/tokenizers/detokenizer_utils.py; transformers 5.20:
tokenization_utils_tokenizers.py)
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.decoders import DecodeStream

from understudy.errors import InputError
from understudy.tokenize.answer_words import self_encoding_words
from understudy.tokenize.chat import templated_content_format, templated_prompt
from understudy.tokenize.huggingface_files import (
    AddedTokenFields,
    TokenizerConfig,
    read_chat_templates,
    read_config,
)
from understudy.tokenize.tokenizer import ContentFormat, Message

_OUTPUT_DOES_NOT_EXTEND_ITSELF = "Invalid prefix encountered"
_NO_CHAT_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if "
    "the tokenizer does not define one."
)

# What the package says of half a surrogate pair in a batch, which is how vLLM calls it.
_TEXT_IS_NO_UNICODE = "TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]"


def open_huggingface(name: str, file: Path) -> "HuggingFaceTokenizer":
    """Return the tokenizer of a `tokenizer.json` and the files beside it. Raises InputError."""
    config = read_config(file.parent)
    templates = read_chat_templates(file.parent) or config.chat_templates()
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises Exception itself
        raise InputError(f"{file} is no tokenizer that the tokenizers package can read: {error}") from error
    _configure(backend, config)
    return HuggingFaceTokenizer(name, backend, config.special_tokens(), templates)


def _configure(backend: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = config.split_special_tokens
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    by_id = sorted((config.added_tokens_decoder or {}).items(), key=itemgetter(0))
    backend.add_tokens([_added_token(token) for _, token in by_id if token.content not in added])
    named = [getattr(config, name) for name in config.special_tokens()]
    for token in [*named, *config.extra_tokens()]:
        fields = AddedTokenFields(token, normalized=False) if isinstance(token, str) else token
        known = added.get(fields.content)
        if known is None or not known.special:
            backend.add_special_tokens([_added_token(fields, special=True)])


def _added_token(fields: AddedTokenFields, *, special: bool | None = None) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(
        fields.content,
        single_word=fields.single_word,
        lstrip=fields.lstrip,
        rstrip=fields.rstrip,
        normalized=fields.normalized,
        special=fields.special if special is None else special,
    )


class HuggingFaceTokenizer:
    """A `tokenizers.Tokenizer` with its special tokens and chat templates."""

    def __init__(
        self,
        name: str,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str],
        chat_templates: Mapping[str, str],
    ) -> None:
        self.name = name
        self._chat_templates = chat_templates
        self._backend = backend
        self._special_tokens = special_tokens
        added = backend.get_added_tokens_decoder()
        self._added_texts = {token_id: token.content for token_id, token in added.items()}
        self._special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocabulary_size = 1 + max(self._vocabulary.values(), default=-1)
        self.max_characters_per_token = max(map(len, self._vocabulary), default=1)
        self.bos_token_id = self._special_id("bos_token")
        self.eos_token_id = self._special_id("eos_token")

    def _special_id(self, name: str) -> int | None:
        token = self._special_tokens.get(name)
        return None if token is None else self._backend.token_to_id(token)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text. Raises InputError for half a surrogate pair."""
        try:
            return self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        except TypeError as error:
            raise InputError(_TEXT_IS_NO_UNICODE) from error

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ids, unknown ones left out. Raises InputError for an id beyond 32 bits."""
        try:
            return self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)
        except OverflowError as error:
            raise InputError(str(error)) from error

    def token_string(self, token_id: int) -> str:
        """Return the entry of the vocabulary; empty for an unknown id."""
        known = 0 <= token_id < self.vocabulary_size
        return (self._backend.id_to_token(token_id) or "") if known else ""

    def token_text(self, token_id: int) -> str:
        """Return the text of one token, with the leading spaces that SentencePiece decoders leave out."""
        text = self.decode([token_id], skip_special_tokens=False)
        marker = self._space_marker
        if marker is None:
            return text
        token = self.token_string(token_id)
        num_marked = len(token) - len(token.lstrip(marker))
        num_shown = len(text) - len(text.lstrip(" "))
        return " " * max(0, num_marked - num_shown) + text if num_marked else text

    @cached_property
    def _space_marker(self) -> str | None:
        before = json.loads(self._backend.to_str()).get("pre_tokenizer") or {}
        steps = before.get("pretokenizers", []) if before.get("type") == "Sequence" else [before]
        markers = [step.get("replacement", "▁") for step in steps if step.get("type") == "Metaspace"]
        return markers[0] if markers else None

    def is_special(self, token_id: int) -> bool:
        """Tell whether the token is left out where special tokens are skipped."""
        return token_id in self._special_ids

    def stream(
        self,
        *,
        skip_special_tokens: bool = True,
        spaces_between_special_tokens: bool = True,
        prompt_token_ids: Sequence[int] = (),
    ) -> "HuggingFaceStream":
        """Return a new stream of the text that follows a prompt."""
        keeps_spaces = skip_special_tokens or spaces_between_special_tokens
        added_texts = {} if keeps_spaces else self._added_texts
        return HuggingFaceStream(self._backend, skip_special_tokens, added_texts, prompt_token_ids)

    def answer_token_ids(self) -> Sequence[int]:
        """Return ids of whole words, found once by trying. Raises InputError if the vocabulary has none."""
        if not self._answer_ids:
            raise InputError(
                f"the tokenizer {self.name} has no whole words to make answers of: use 'words' or another one"
            )
        return self._answer_ids

    @cached_property
    def _answer_ids(self) -> tuple[int, ...]:
        return self_encoding_words(
            self._vocabulary,
            frozenset(self._added_texts),
            lambda text: self.encode(text, add_special_tokens=False),
            self.decode,
        )

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
        """Return the prompt by a template: given, named among the tokenizer's own, or its default."""
        has_tools = tools is not None or (kwargs or {}).get("tools") is not None
        template = self._template(chat_template, has_tools=has_tools)
        if template is None:
            raise InputError(_NO_CHAT_TEMPLATE)
        return templated_prompt(
            template,
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            special_tokens=self._special_tokens,
            kwargs=kwargs,
        )

    def content_format(self, chat_template: str | None = None, *, has_tools: bool = False) -> ContentFormat:
        """Return what the template that a chat uses wants; `string` if there is none."""
        template = self._template(chat_template, has_tools=has_tools)
        return "string" if template is None else templated_content_format(template)

    def _template(self, chat_template: str | None, *, has_tools: bool) -> str | None:
        own = self._chat_templates
        if chat_template is not None:
            return own.get(chat_template, chat_template)
        return (own.get("tool_use") if has_tools else None) or own.get("default")


class HuggingFaceStream:
    """Text token by token. `added_texts` are the added tokens between which no space shall stand."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        skip_special_tokens: bool,  # noqa: FBT001 - passed on from a keyword
        added_texts: Mapping[int, str],
        prompt_token_ids: Sequence[int],
    ) -> None:
        self._backend = backend
        self._skip_special_tokens = skip_special_tokens
        self._added_texts = added_texts
        self._last_was_added = False
        self._stream = DecodeStream(ids=list(prompt_token_ids), skip_special_tokens=skip_special_tokens)

    def add(self, token_id: int) -> str:
        """Return the text that has become certain."""
        text = self._step(token_id)
        if self._added_texts:
            added = self._added_texts.get(token_id)
            if added is not None and self._last_was_added:
                text = added
            self._last_was_added = added is not None
        return text or ""

    def _step(self, token_id: int) -> str | None:
        try:
            return self._stream.step(self._backend, token_id)
        except (OverflowError, TypeError):
            return None
        except Exception as error:
            if not str(error).startswith(_OUTPUT_DOES_NOT_EXTEND_ITSELF):
                raise
            self._stream = DecodeStream(skip_special_tokens=self._skip_special_tokens)
            return self._stream.step(self._backend, token_id)
