"""The tree that regular expressions and grammars become: what text of a language is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

MAX_CODE_POINT = 0x10FFFF


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A text as it stands."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Characters:
    """One character out of ranges of code points: both ends included, in order, apart from each other, at least one."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """All parts, one after the other."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One of the options."""

    options: tuple["Expression", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """A part `lowest` to `highest` times; `highest` None means any number."""

    part: "Expression"
    lowest: int
    highest: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """Nothing, at the start of the text or at its end."""

    at_start: bool


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """What the rule of that name makes."""

    name: str


Expression: TypeAlias = Literal | Characters | Sequence | Choice | Repeat | Edge | Rule

Rules: TypeAlias = Mapping[str, Expression]

EMPTY = Literal("")


def children(node: Expression, rules: Rules) -> tuple[Expression, ...]:
    """Return the nodes that a node is made of; the one of a rule is its body."""
    match node:
        case Sequence(parts):
            return parts
        case Choice(options):
            return options
        case Repeat(part):
            return (part,)
        case Rule(name):
            return (rules[name],)
        case _:
            return ()


def complement(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of all characters outside `ranges`."""
    gaps = []
    next_free = 0
    for first, last in sorted(ranges):
        if first > next_free:
            gaps.append((next_free, first - 1))
        next_free = max(next_free, last + 1)
    if next_free <= MAX_CODE_POINT:
        gaps.append((next_free, MAX_CODE_POINT))
    return tuple(gaps)
