"""Numbers within bounds."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from random import Random
from typing import Any

from understudy.server.generate.schema.conforms import number_fits
from understudy.server.generate.schema.dead_end import DeadEnd
from understudy.server.generate.work import Work

_USUAL_RANGE = 100
_MAX_TRIES = 50
_MOST_STEP_BITS = 4096

_UNITS_OF_A_PART = 10
_UNITS_OF_A_TRY = 5

Part = Mapping[str, Any]


def write_number(parts: Sequence[Part], rng: Random, work: Work, *, is_integer: bool) -> float:
    """Return a number that meets the bounds and the multiples of all parts: an int where `is_integer`.

    Raises DeadEnd if none is found.
    """
    work.spend(_UNITS_OF_A_PART * len(parts))
    steps = [Fraction(str(part["multipleOf"])) for part in parts if "multipleOf" in part]
    if is_integer:
        steps.append(Fraction(1))
    step = _least_common_multiple(steps)
    lowest, highest = _bounds(parts, step)
    if step is None:
        return _between(parts, lowest, highest, rng, work)
    first, last = math.ceil(lowest / step), math.floor(highest / step)
    if first > last:
        raise DeadEnd
    edges = (0, first, last, first + 1, last - 1)
    tries = (rng.randint(first, last) for _ in range(_MAX_TRIES))
    for times in (*tries, *(edge for edge in edges if first <= edge <= last)):
        work.spend(_UNITS_OF_A_TRY + len(parts))
        value = int(times * step) if is_integer else _as_float(times * step)
        if all(number_fits(value, part) for part in parts):
            return value
    raise DeadEnd


def _least_common_multiple(steps: Sequence[Fraction]) -> Fraction | None:
    if not steps:
        return None
    multiple = 1
    for step in steps:
        multiple = math.lcm(multiple, step.numerator)
        if multiple.bit_length() > _MOST_STEP_BITS:
            raise DeadEnd
    return Fraction(multiple, math.gcd(*(step.denominator for step in steps)))


def _bounds(parts: Sequence[Part], step: Fraction | None) -> tuple[Fraction, Fraction]:
    """Return the lowest and the highest number to look at; open ends get a range of a usual size."""
    lows = [
        part[name] for part in parts for name in ("minimum", "exclusiveMinimum") if _is_number(part.get(name))
    ]
    highs = [
        part[name] for part in parts for name in ("maximum", "exclusiveMaximum") if _is_number(part.get(name))
    ]
    usual = _USUAL_RANGE * max(step or Fraction(1), Fraction(1))
    lowest = Fraction(str(max(lows))) if lows else None
    highest = Fraction(str(min(highs))) if highs else None
    if lowest is None:
        lowest = Fraction(0) if highest is None or highest >= usual else highest - usual
    return lowest, lowest + usual if highest is None else highest


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(parts: Sequence[Part], lowest: Fraction, highest: Fraction, rng: Random, work: Work) -> float:
    if lowest > highest:
        raise DeadEnd
    width = highest - lowest
    for number in range(_MAX_TRIES):
        work.spend(_UNITS_OF_A_TRY + len(parts))
        value = _as_float(lowest + width * Fraction(rng.random()))
        rounded = round(value, 2) if number < _MAX_TRIES // 2 else value
        if all(number_fits(rounded, part) for part in parts):
            return rounded
    middle = _as_float(lowest + width / 2)
    if all(number_fits(middle, part) for part in parts):
        return middle
    raise DeadEnd


def _as_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        raise DeadEnd from None
