"""Writes a text of a language by chance, in bounded work whatever the language."""

from random import Random

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.costs import least_costs
from understudy.server.generate.grammar.expression import (
    Characters,
    Choice,
    Edge,
    Expression,
    Literal,
    Repeat,
    Rules,
    Sequence,
    children,
)
from understudy.server.generate.work import Work

MAX_COST = 20_000
"""The most steps that the shortest text of a language may take; a character out of a class takes two."""

SPARE_COST = 400
"""How much more than the shortest text a text may take by default."""

_MORE_TIMES = 0.7
"""The chance that an open repetition goes on."""

_PREFERRED = (
    (ord("a"), ord("z")),
    (ord("A"), ord("Z")),
    (ord("0"), ord("9")),
    (ord(" "), ord(" ")),
    (ord("!"), ord("~")),
    (0x00A1, 0xD7FF),
    (0xE000, 0x10FFFF),
    (0x0000, 0x001F),
    (0x007F, 0x00A0),
)
"""What a class of characters is read as, the first that it has anything of."""

_Ranges = tuple[tuple[int, int], ...]


class TextWriter:
    """Writes texts that `root` describes.

    Raises ConstraintError if there is none, or none of a reasonable size.
    """

    def __init__(self, root: Expression, rules: Rules, work: Work) -> None:
        self._root = root
        self._rules = rules
        self._work = work
        self._usual: dict[int, _Ranges] = {}
        self._costs = least_costs(root, rules, work)
        least = self._costs.get(id(root))
        if least is None:
            raise ConstraintError("the grammar describes no text that ever ends")
        if least > MAX_COST:
            raise ConstraintError(f"even the shortest text has more than {MAX_COST // 2:,} characters")

    def text(self, rng: Random, *, spare: int = SPARE_COST, spends_all: bool = False) -> str:
        """Return a text by chance.

        `spare` is what may be written beyond the least; with `spends_all` an open repetition takes all of it, or nothing.
        """
        costs = self._costs
        text: list[str] = []
        pending = [self._root]
        while pending:
            node = pending.pop()
            self._work.spend(1)
            match node:
                case Literal(literal):
                    text.append(literal)
                case Characters():
                    text.append(self._character(node, rng))
                case Choice(options):
                    cheapest = costs[id(node)] - 1
                    chosen = rng.choice(self._affordable(options, cheapest + spare))
                    spare -= costs[id(chosen)] - cheapest
                    pending.append(chosen)
                case Repeat(part, lowest, highest):
                    each = costs.get(id(part), MAX_COST)
                    room = spare // each if highest is None else min(spare // each, highest - lowest)
                    more = rng.choice((0, room)) if spends_all else _times(room, rng)
                    spare -= more * each
                    self._work.spend(lowest + more)
                    pending.extend([part] * (lowest + more))
                case Edge():
                    pass
                case Sequence(parts):
                    pending.extend(reversed(parts))
                case _:
                    pending.extend(children(node, self._rules))
        return "".join(text)

    def _affordable(self, options: tuple[Expression, ...], most: int) -> list[Expression]:
        self._work.spend(len(options) // 4)
        costs = self._costs
        return [option for option in options if id(option) in costs and costs[id(option)] <= most]

    def _character(self, node: Characters, rng: Random) -> str:
        self._work.spend(1)
        if id(node) not in self._usual:
            self._work.spend(len(node.ranges))
            self._usual[id(node)] = _usual_part(node.ranges)
        first, last = rng.choice(self._usual[id(node)])
        return chr(rng.randint(first, last))


def _times(most: int, rng: Random) -> int:
    times = 0
    while times < most and rng.random() < _MORE_TIMES:
        times += 1
    return times


def _usual_part(ranges: _Ranges) -> _Ranges:
    for lowest, highest in _PREFERRED:
        shared = ((max(first, lowest), min(last, highest)) for first, last in ranges)
        within = tuple((first, last) for first, last in shared if first <= last)
        if within:
            return within
    raise ConstraintError("a class of characters has none that text can hold")
