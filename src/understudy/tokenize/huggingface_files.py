"""What stands beside a `tokenizer.json`: special tokens and chat templates.

Read as transformers 5.20 reads it: `tokenizer_config.json`, for older models `special_tokens_map.json`, and
`chat_template.jinja` with `additional_chat_templates/*.jinja`, which come before the configuration's own. Its `add_bos_token` and `add_eos_token` count for nothing: what is added
around a text stands in the `tokenizer.json`.
"""

from pathlib import Path
from typing import Any

import msgspec

from understudy.errors import InputError

SPECIAL_TOKEN_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


class AddedTokenFields(msgspec.Struct, frozen=True):
    """A token as the files describe it."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


_Token = str | AddedTokenFields


class _NamedTemplate(msgspec.Struct, frozen=True):
    name: str
    template: str


class TokenizerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `tokenizer_config.json` that matter here; all may be missing."""

    bos_token: _Token | None = None
    eos_token: _Token | None = None
    unk_token: _Token | None = None
    sep_token: _Token | None = None
    pad_token: _Token | None = None
    cls_token: _Token | None = None
    mask_token: _Token | None = None
    additional_special_tokens: list[_Token] | None = None
    extra_special_tokens: list[_Token] | dict[str, _Token] | None = None
    added_tokens_decoder: dict[int, AddedTokenFields] | None = None
    split_special_tokens: bool = False
    chat_template: str | list[_NamedTemplate] | None = None

    def special_tokens(self) -> dict[str, str]:
        """Return the named special tokens that there are, by name."""
        tokens = {name: getattr(self, name) for name in SPECIAL_TOKEN_NAMES}
        return {name: text_of(token) for name, token in tokens.items() if token is not None}

    def extra_tokens(self) -> list[_Token]:
        """Return the special tokens beside the named ones."""
        extra = self.extra_special_tokens or self.additional_special_tokens or []
        return list(extra.values()) if isinstance(extra, dict) else extra

    def chat_templates(self) -> dict[str, str]:
        """Return the chat templates by name; one without a name is the `default`."""
        if isinstance(self.chat_template, str):
            return {"default": self.chat_template}
        return {named.name: named.template for named in self.chat_template or ()}


def text_of(token: _Token) -> str:
    """Return the text of a token."""
    return token if isinstance(token, str) else token.content


def tokenizer_file(path: Path) -> Path | None:
    """Return the `tokenizer.json` that a path names, itself or by its folder; None if it names none."""
    file = path / "tokenizer.json" if path.is_dir() else path
    return file if file.is_file() else None


def read_config(folder: Path) -> TokenizerConfig:
    """Return what the files of a folder say. Raises InputError for a malformed one."""
    fields = _object(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in fields:
        fields |= _object(folder / "special_tokens_map.json")
    try:
        return msgspec.convert(fields, TokenizerConfig, str_keys=True)
    except msgspec.ValidationError as error:
        raise InputError(f"{folder / 'tokenizer_config.json'}: {error}") from error


def read_chat_templates(folder: Path) -> dict[str, str]:
    """Return the templates in files of their own, by name. Raises InputError for one that is not readable."""
    templates = {}
    if (file := folder / "chat_template.jinja").is_file():
        templates["default"] = _text(file)
    for file in sorted(folder.glob("additional_chat_templates/*.jinja")):
        templates[file.stem] = _text(file)
    return templates


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return msgspec.json.decode(_text(file), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{file} is no JSON object: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
