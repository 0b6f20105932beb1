"""Names of flags and variables whose values nobody is shown."""

import re

_SECRET = re.compile(r"key|token(?!iz)|secret|password|credential", re.IGNORECASE)
_NAMES_WITH_TOKENS = re.compile(r"tokens|token_threshold")
"""Names that speak of tokens in the other sense."""


def is_secret(name: str) -> bool:
    """Return whether a value of this name might be secret."""
    return _SECRET.search(_NAMES_WITH_TOKENS.sub("", name)) is not None
