"""Axes: where a value lies between two ends, and which round values are marked. Knows nothing of drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.fleet.summary import Distribution
from understudy.report.formats import compact

_MOST_STEPS = 5
_LONG_TAIL = 20.0
"""The greatest value over the smallest median from which a latency axis is logarithmic."""

_MOST_DECADES = 6
_SMALLEST = 1e-9
"""Anything below is drawn as nothing: virtual time itself is no finer."""

_TIME_UNITS = ((7200.0, 3600.0, "h"), (600.0, 60.0, "min"), (1.0, 1.0, "s"), (0.0, 0.001, "ms"))
"""The unit of a time axis by its greatest value: (from seconds, seconds in the unit, unit)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A label with its unit, two ends, and marks as (value, text)."""

    label: str
    low: float
    high: float
    marks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def fraction(self, value: float) -> float:
        """Return where the value lies, 0 at the low end and 1 at the high one, also of values beyond them."""
        inside = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)


def count_axis(label: str, highest: float) -> Axis:
    """Return an axis from 0 to a round number at or above the highest value."""
    step = _round_step(highest)
    top = step * max(math.ceil(highest / step - 1e-9), 1)
    return Axis(label, 0.0, top, _linear_marks(top, step, 1.0))


def share_axis(label: str, steps: int = 4) -> Axis:
    """Return an axis for shares: 0 to 1, marked in per cent."""
    return Axis(
        label, 0.0, 1.0, tuple((step / steps, f"{step * 100 // steps}%") for step in range(steps + 1))
    )


def time_axis(name: str, highest_seconds: float, most_steps: int = _MOST_STEPS) -> Axis:
    """Return an axis of seconds from 0 to the highest, marked in milliseconds, seconds, minutes or hours."""
    high = highest_seconds if highest_seconds >= _SMALLEST else 1.0
    size, unit = next((size, unit) for least, size, unit in _TIME_UNITS if high >= least)
    step = _round_step(high / size, most_steps) * size
    return Axis(f"{name} ({unit})", 0.0, high, _linear_marks(high, step, size))


def latency_axis(name: str, distributions: Sequence[Distribution]) -> Axis:
    """Return one axis of seconds for all curves, logarithmic where the slowest are far from the typical."""
    highest = max((each.curve[-1] for each in distributions if each.curve), default=0.0)
    medians = [each.p50 for each in distributions if each.p50]
    if not medians or highest < max(_LONG_TAIL * min(medians), _SMALLEST):
        return time_axis(name, highest)
    lowest = min(value for each in distributions for value in each.curve if value > 0)
    return _logarithmic(name, max(lowest, highest / 10**_MOST_DECADES), highest)


def _logarithmic(name: str, low: float, high: float) -> Axis:
    size, unit = (1.0, "s") if high >= 1 else (0.001, "ms")
    decades = range(math.floor(math.log10(low / size)), math.ceil(math.log10(high / size)) + 1)
    mantissas = (1, 2, 5) if math.log10(high / low) <= 2 else (1,)
    values = [mantissa * 10.0**decade for decade in decades for mantissa in mantissas]
    marks = tuple((value * size, compact(value)) for value in values if low <= value * size <= high)
    return Axis(f"{name} ({unit}, log scale)", low, high, marks, logarithmic=True)


def _round_step(highest: float, most_steps: int = _MOST_STEPS) -> float:
    """Return 1, 2 or 5 times a power of ten, so that no more than so many steps reach the highest value."""
    if highest < _SMALLEST:
        return 1.0
    rough = highest / most_steps
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _linear_marks(high: float, step: float, unit: float) -> tuple[tuple[float, str], ...]:
    steps = math.floor(high / step + 1e-9)
    return tuple((index * step, compact(index * step / unit)) for index in range(steps + 1))
