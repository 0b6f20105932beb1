"""Whether a text is of a regular language: by sets of places, so in polynomial time for any expression.

Python's own matcher takes exponential time for some expressions, so what comes from a request never reaches it.
"""

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.expression import (
    Characters,
    Choice,
    Edge,
    Expression,
    Literal,
    Repeat,
    Sequence,
)

MAX_MATCH_STEPS = 50_000

_Places = frozenset[int]


class Matcher:
    """Matches one text; every look at a node for one set of places counts as a step."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._steps = 0

    def fits_whole(self, expression: Expression) -> bool:
        """Whether the whole text matches. Raises ConstraintError where that takes too long to find out."""
        return len(self._text) in self._ends(expression, frozenset({0}))

    def fits_somewhere(self, expression: Expression) -> bool:
        """Whether any part of the text matches, as JSON schema's `pattern` has it."""
        return bool(self._ends(expression, frozenset(range(len(self._text) + 1))))

    def _ends(self, node: Expression, starts: _Places) -> _Places:
        self._steps += 1 + len(starts)
        if self._steps > MAX_MATCH_STEPS:
            raise ConstraintError("a pattern is too complex")
        match node:
            case Literal(text):
                return frozenset(at + len(text) for at in starts if self._text.startswith(text, at))
            case Characters(ranges):
                return frozenset(at + 1 for at in starts if at < len(self._text) and self._is_in(at, ranges))
            case Sequence(parts):
                for part in parts:
                    starts = self._ends(part, starts)
                return starts
            case Choice(options):
                return frozenset().union(*(self._ends(option, starts) for option in options))
            case Repeat(part, lowest, highest):
                return self._repeated(part, lowest, highest, starts)
            case Edge(at_start):
                return starts & {0 if at_start else len(self._text)}
            case _:
                raise AssertionError("a regular expression has no rules")

    def _repeated(self, part: Expression, lowest: int, highest: int | None, starts: _Places) -> _Places:
        for _ in range(lowest):
            if not starts:
                return starts
            starts = self._ends(part, starts)
        ends = fresh = starts
        times = lowest
        while fresh and (highest is None or times < highest):
            fresh = self._ends(part, fresh) - ends
            ends |= fresh
            times += 1
        return ends

    def _is_in(self, at: int, ranges: tuple[tuple[int, int], ...]) -> bool:
        code_point = ord(self._text[at])
        return any(first <= code_point <= last for first, last in ranges)
