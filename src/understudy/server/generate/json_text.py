"""JSON as a model writes it."""

import json
import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_text(value: object, *, is_compact: bool = False) -> str:
    """Return a JSON value in its own letters, but for halves of characters, which no text holds."""
    separators = (",", ":") if is_compact else None
    text = json.dumps(value, ensure_ascii=False, separators=separators)
    return text if text.isascii() or not _SURROGATE.search(text) else json.dumps(value, separators=separators)
