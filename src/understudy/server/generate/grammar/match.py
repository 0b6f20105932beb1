"""Whether a text is of a regular language: by sets of places, so in polynomial time for any expression.

Python's own matcher takes exponential time for some expressions, so what comes from a request never reaches it.
"""

from bisect import bisect_right

from understudy.server.generate.grammar.expression import (
    MAX_CODE_POINT,
    Characters,
    Choice,
    Edge,
    Expression,
    Literal,
    Repeat,
    Sequence,
)
from understudy.server.generate.work import Work

_Places = frozenset[int]


class Matcher:
    """Matches one text; every look at a node costs work by the number of places that it is looked at from."""

    def __init__(self, text: str, work: Work) -> None:
        self._text = text
        self._work = work

    def fits_whole(self, expression: Expression) -> bool:
        """Whether the whole text matches."""
        return len(self._text) in self._ends(expression, frozenset({0}))

    def fits_somewhere(self, expression: Expression) -> bool:
        """Whether any part of the text matches, as JSON schema's `pattern` has it."""
        return bool(self._ends(expression, frozenset(range(len(self._text) + 1))))

    def _ends(self, node: Expression, starts: _Places) -> _Places:
        self._work.spend(2 + len(starts) // 2)
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
        index = bisect_right(ranges, (code_point, MAX_CODE_POINT)) - 1
        return index >= 0 and code_point <= ranges[index][1]
