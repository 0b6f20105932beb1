"""How a value reads: numbers with their unit, and text from outside made harmless to print.

Knows nothing of results, terminals or HTML.
"""

import math

MISSING = "\u2013"
"""What stands where there is no value."""

NO_BREAK = "\u00a0"
"""Stands between a number and its unit, so that no line ends there."""

_MOST_DECIMALS = 6


def printable(text: str) -> str:
    """Return the text on one line: every kind of space as a blank, every other invisible character as U+FFFD.

    So no escape sequence reaches a terminal, and every character is allowed in UTF-8, HTML and XML.
    """
    return "".join(" " if char.isspace() else char if char.isprintable() else "\ufffd" for char in text)


def significant(value: float | None) -> str:
    """Return the number with three significant digits or more, never in scientific notation."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(decimals, 0), _MOST_DECIMALS)}f}"


def duration(seconds: float | None) -> str:
    """Return a time in milliseconds below one second and in seconds from there."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    reads_as_milliseconds = abs(seconds) < 0.9995
    if reads_as_milliseconds:
        return f"{significant(seconds * 1000)}{NO_BREAK}ms"
    return f"{significant(seconds)}{NO_BREAK}s"


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, as a percentage with one decimal."""
    return MISSING if share is None or not math.isfinite(share) else f"{share * 100:.1f}%"


def count(value: int | None) -> str:
    """Return a whole number with its thousands set apart."""
    return MISSING if value is None else f"{value:,}"


def compact(value: float) -> str:
    """Return a number for an axis: 1200 as 1.2k, 3000000 as 3M, 0.25 as 0.25."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{suffix}"
    return f"{value:.6g}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its noun: '1 request', '2,000 requests'."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
