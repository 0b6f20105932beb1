"""Strings of a length, a pattern or a format."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.match import Matcher
from understudy.server.generate.grammar.regex_text import write_regex
from understudy.server.generate.schema.dead_end import DeadEnd
from understudy.server.generate.schema.document import SchemaDocument
from understudy.server.generate.words import words_text
from understudy.server.generate.work import WorkLimitError

MAX_STRING_CHARACTERS = 65_536

_MAX_TRIES = 20
_USUAL_WORDS = 4

_UNITS_OF_A_FORMAT = 10
_CHARACTERS_OF_A_UNIT = 8

Part = Mapping[str, Any]


def write_string(parts: Sequence[Part], rng: Random, document: SchemaDocument) -> str:
    """Return a string that meets the lengths, patterns and formats of all parts.

    Raises DeadEnd if none is found, ConstraintError if even the shortest is too long.
    """
    work = document.work
    work.spend(len(parts))
    shortest = int(max((part["minLength"] for part in parts if "minLength" in part), default=0))
    longest = int(
        min((part["maxLength"] for part in parts if "maxLength" in part), default=MAX_STRING_CHARACTERS)
    )
    if shortest > MAX_STRING_CHARACTERS:
        raise ConstraintError(f"a string of {shortest:,} characters is longer than {MAX_STRING_CHARACTERS:,}")
    lengths = range(shortest, longest + 1)
    patterns = [document.pattern(part["pattern"]) for part in parts if "pattern" in part]
    formats = [part["format"] for part in parts if part.get("format") in FORMATS]
    if formats:
        for _ in range(_MAX_TRIES):
            work.spend(_UNITS_OF_A_FORMAT)
            text = FORMATS[formats[0]](rng)
            if len(text) in lengths and all(
                Matcher(text, work).fits_somewhere(pattern) for pattern in patterns
            ):
                return text
    if patterns:
        try:
            return write_regex(patterns[0], rng, work, also=patterns[1:], lengths=lengths)
        except WorkLimitError:
            raise
        except ConstraintError:
            raise DeadEnd from None
    if not lengths or formats:
        raise DeadEnd
    work.spend(lengths.start // _CHARACTERS_OF_A_UNIT)
    return _words(lengths, rng)


def _words(lengths: range, rng: Random) -> str:
    words = [words_text(rng, rng.randint(1, _USUAL_WORDS))]
    length = len(words[0])
    while length < lengths.start:
        words.append(words_text(rng, _USUAL_WORDS))
        length += 1 + len(words[-1])
    text = " ".join(words)
    if len(text) >= lengths.stop:
        text = text[: lengths.stop - 1]
    return text


def _date(rng: Random) -> str:
    return f"{rng.randint(1970, 2037)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: Random) -> str:
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"


def _host(rng: Random) -> str:
    return f"{words_text(rng, 1)}.example.com"


def _ipv6(rng: Random) -> str:
    return ":".join(f"{rng.randrange(1 << 16):x}" for _ in range(8))


FORMATS: dict[str, Callable[[Random], str]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda rng: f"{_date(rng)}T{_time(rng)}",
    "duration": lambda rng: f"P{rng.randint(1, 9)}DT{rng.randint(1, 9)}H",
    "email": lambda rng: f"{words_text(rng, 1)}@{_host(rng)}",
    "hostname": _host,
    "ipv4": lambda rng: ".".join(str(rng.randint(1, 254)) for _ in range(4)),
    "ipv6": _ipv6,
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "uri": lambda rng: f"https://{_host(rng)}/{words_text(rng, 1)}",
    "uri-reference": lambda rng: f"/{words_text(rng, 1)}",
    "uri-template": lambda rng: f"https://{_host(rng)}/{{{words_text(rng, 1)}}}",
    "json-pointer": lambda rng: f"/{words_text(rng, 1)}",
    "relative-json-pointer": lambda rng: f"{rng.randint(0, 3)}/{words_text(rng, 1)}",
}
"""The formats that xgrammar 0.2.8 knows; others are no constraint."""
