"""Reads regular expressions in Python's syntax, without ever compiling or running them."""

import functools
import importlib
import re
import warnings
from collections.abc import Callable
from typing import Any

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.expression import (
    Characters,
    Choice,
    Edge,
    Expression,
    Literal,
    Repeat,
    Sequence,
    complement,
)
from understudy.server.generate.work import Work

MAX_REGEX_CHARACTERS = 8_192
MAX_REGEX_NESTING = 64

_UNITS_OF_A_PATTERN = 25
_UNITS_OF_A_CHARACTER = 2

_parser: Any = importlib.import_module("re._parser")
"""The tree that Python's own compiler starts from; it has no public name."""

_DIGIT = ((ord("0"), ord("9")),)
_SPACE = ((ord("\t"), ord("\r")), (ord(" "), ord(" ")))
_WORD = (*_DIGIT, (ord("A"), ord("Z")), (ord("_"), ord("_")), (ord("a"), ord("z")))
_NEWLINE = ((ord("\n"), ord("\n")),)

_CATEGORIES = {
    "CATEGORY_DIGIT": _DIGIT,
    "CATEGORY_NOT_DIGIT": complement(_DIGIT),
    "CATEGORY_SPACE": _SPACE,
    "CATEGORY_NOT_SPACE": complement(_SPACE),
    "CATEGORY_WORD": _WORD,
    "CATEGORY_NOT_WORD": complement(_WORD),
}

_EDGES = {"AT_BEGINNING": True, "AT_BEGINNING_STRING": True, "AT_END": False, "AT_END_STRING": False}

_NOT_REGULAR = {
    "GROUPREF": "a reference to a group",
    "GROUPREF_EXISTS": "a reference to a group",
    "ASSERT": "a look around",
    "ASSERT_NOT": "a look around",
}

_PROBE = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]?|(\(\?)<(?=[A-Za-z_])", re.DOTALL)


def parse_regex(pattern: str, work: Work) -> Expression:
    r"""Return the tree of a regular expression; \d, \s and \w mean ASCII only, as in JSON schema.

    Raises ConstraintError for one that is wrong, too long or too deep, and for what is not regular: look-arounds,
    references to groups, and word boundaries.
    """
    if len(pattern) > MAX_REGEX_CHARACTERS:
        raise _refused(f"it has {len(pattern):,} characters, more than {MAX_REGEX_CHARACTERS:,}")
    work.spend(_UNITS_OF_A_PATTERN + _UNITS_OF_A_CHARACTER * len(pattern))
    return _parsed(pattern)


@functools.lru_cache(maxsize=16)
def _parsed(pattern: str) -> Expression:
    if _nesting(pattern) > MAX_REGEX_NESTING:
        raise _refused(f"its groups nest more than {MAX_REGEX_NESTING} deep")
    named = _PROBE.sub(lambda found: "(?P<" if found[1] else found[0], pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _parser.parse(named)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise _refused(str(error)) from None
    ignores_case = bool(tree.state.flags & re.IGNORECASE)
    return _Reader(ignores_case=ignores_case).sequence(tree)


def _refused(reason: str) -> ConstraintError:
    return ConstraintError(f"Failed to transform regex into a grammar: {reason}")


def _nesting(pattern: str) -> int:
    """Return how deep parentheses may nest, from above: escapes count for nothing, classes for what they hold."""
    depth = deepest = 0
    for found in re.finditer(r"\\.|[()]", pattern, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        deepest = max(deepest, depth)
    return deepest


class _Reader:
    """Turns Python's parse tree into ours."""

    def __init__(self, *, ignores_case: bool) -> None:
        self._ignores_case = ignores_case
        self._readers: dict[str, Callable[[Any], Expression]] = {
            "LITERAL": self._literal,
            "NOT_LITERAL": lambda code_point: self._characters(complement(((code_point, code_point),))),
            "ANY": lambda _argument: Characters(complement(_NEWLINE)),
            "IN": self._class,
            "BRANCH": lambda branches: Choice(tuple(self.sequence(branch) for branch in branches[1])),
            "SUBPATTERN": self._group,
            "ATOMIC_GROUP": self.sequence,
            "MAX_REPEAT": self._repeat,
            "MIN_REPEAT": self._repeat,
            "POSSESSIVE_REPEAT": self._repeat,
            "AT": self._edge,
        }

    def sequence(self, items: Any) -> Expression:
        parts = tuple(self._item(str(operation), argument) for operation, argument in items)
        return parts[0] if len(parts) == 1 else Sequence(parts)

    def _item(self, operation: str, argument: Any) -> Expression:
        if operation not in self._readers:
            raise _refused(f"{_NOT_REGULAR.get(operation, operation)} is not supported")
        return self._readers[operation](argument)

    def _literal(self, code_point: int) -> Expression:
        text = chr(code_point)
        if (
            self._ignores_case
            and len(text.lower()) == len(text.upper()) == 1
            and text.lower() != text.upper()
        ):
            return Choice((Literal(text.lower()), Literal(text.upper())))
        return Literal(text)

    def _group(self, argument: Any) -> Expression:
        _, added_flags, _, items = argument
        if added_flags & re.IGNORECASE:
            return _Reader(ignores_case=True).sequence(items)
        return self.sequence(items)

    def _repeat(self, argument: Any) -> Expression:
        lowest, highest, items = argument
        bound = None if highest == _parser.MAXREPEAT else int(highest)
        return Repeat(self.sequence(items), int(lowest), bound)

    def _edge(self, kind: Any) -> Expression:
        if str(kind) not in _EDGES:
            raise _refused("a word boundary is not supported")
        return Edge(_EDGES[str(kind)])

    def _class(self, items: Any) -> Expression:
        ranges: list[tuple[int, int]] = []
        is_negated = False
        for operation, argument in items:
            match str(operation):
                case "NEGATE":
                    is_negated = True
                case "LITERAL":
                    ranges.append((argument, argument))
                case "RANGE":
                    ranges.append(argument)
                case "CATEGORY":
                    ranges.extend(_CATEGORIES[str(argument)])
                case other:
                    raise _refused(f"{other} in a class is not supported")
        return self._characters(complement(tuple(ranges)) if is_negated else _in_order(ranges))

    def _characters(self, ranges: tuple[tuple[int, int], ...]) -> Expression:
        if not ranges:
            raise _refused("a class excludes every character")
        return Characters(ranges)


def _in_order(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the same characters as ranges in order, none of which touches another."""
    return complement(complement(tuple(ranges)))
