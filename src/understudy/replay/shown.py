"""Text from a server, made short and harmless to print and to keep."""

_MAX_CHARACTERS = 200


def shown(text: str) -> str:
    """Return at most 200 characters of a text on one line, without what is invisible."""
    one_line = " ".join(text.split())
    clean = "".join(char if char.isprintable() else "\ufffd" for char in one_line)
    return clean if len(clean) <= _MAX_CHARACTERS else clean[: _MAX_CHARACTERS - 1] + "…"
