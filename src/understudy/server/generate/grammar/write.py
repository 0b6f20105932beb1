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

MAX_COST = 100_000
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


def write(
    root: Expression, rules: Rules, rng: Random, *, spare: int = SPARE_COST, spends_all: bool = False
) -> str:
    """Return a text that `root` describes. Raises ConstraintError if there is none, or none of a reasonable size.

    `spare` is what may be written beyond the least; with `spends_all` an open repetition takes all of it, or nothing.
    """
    costs = least_costs(root, rules)
    least = costs.get(id(root))
    if least is None:
        raise ConstraintError("the grammar describes no text that ever ends")
    if least > MAX_COST:
        raise ConstraintError(
            f"even the shortest text has about {least:,} characters, more than {MAX_COST:,}"
        )
    text: list[str] = []
    pending = [root]
    while pending:
        node = pending.pop()
        match node:
            case Literal(literal):
                text.append(literal)
            case Characters(ranges):
                text.append(_character(ranges, rng))
            case Choice(options):
                ending = [option for option in options if id(option) in costs]
                cheapest = min(costs[id(option)] for option in ending)
                chosen = rng.choice([option for option in ending if costs[id(option)] - cheapest <= spare])
                spare -= costs[id(chosen)] - cheapest
                pending.append(chosen)
            case Repeat(part, lowest, highest):
                each = costs.get(id(part), MAX_COST)
                room = spare // each if highest is None else min(spare // each, highest - lowest)
                more = rng.choice((0, room)) if spends_all else _times(room, rng)
                spare -= more * each
                pending.extend([part] * (lowest + more))
            case Edge():
                pass
            case Sequence(parts):
                pending.extend(reversed(parts))
            case _:
                pending.extend(children(node, rules))
    return "".join(text)


def _times(most: int, rng: Random) -> int:
    times = 0
    while times < most and rng.random() < _MORE_TIMES:
        times += 1
    return times


def _character(ranges: tuple[tuple[int, int], ...], rng: Random) -> str:
    for lowest, highest in _PREFERRED:
        shared = [(max(first, lowest), min(last, highest)) for first, last in ranges]
        within = [(first, last) for first, last in shared if first <= last]
        if within:
            first, last = rng.choice(within)
            return chr(rng.randint(first, last))
    raise ConstraintError("a class of characters has none that text can hold")
