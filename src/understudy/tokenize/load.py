"""Finds the tokenizer that a user names."""

from pathlib import Path

from understudy.errors import InputError
from understudy.tokenize.huggingface_files import tokenizer_file
from understudy.tokenize.tokenizer import Tokenizer
from understudy.tokenize.words import words_tokenizer


def load_tokenizer(source: str | None = None) -> Tokenizer:
    """Return the offline tokenizer for None and `words`, else that of a `tokenizer.json` or its folder.

    Raises InputError where there is none, where it is malformed, and where a needed package is missing.
    """
    if source is None or source == "words":
        return words_tokenizer()
    file = tokenizer_file(Path(source))
    if file is None:
        raise InputError(
            f"no tokenizer at {source!r}: give 'words', a tokenizer.json, or a folder that holds one"
        )
    try:
        from understudy.tokenize.huggingface import open_huggingface  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            "a real tokenizer needs the tokenizers package: pip install 'understudy[tokenizers]'"
        ) from error
    return open_huggingface(source, file)
