"""How long the emulated model's answers are: a distribution, drawn from for each request by itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from understudy.errors import UsageError, unknown_name
from understudy.server.generate.question import Question

_MAX_LENGTH_TOKENS = 10**9

_DEFAULT_MEDIAN_TOKENS = 200.0
_DEFAULT_SIGMA = 0.6
_MAX_SIGMA = 10

_FORMS = {
    "auto": "auto",
    "max-tokens": "max-tokens",
    "fixed": "fixed:200",
    "uniform": "uniform:50-200",
    "normal": "normal:200,50",
    "lognormal": "lognormal:200,0.6",
    "exponential": "exponential:200",
    "dataset": "dataset",
}

_Draw = Callable[[Random], float]


@dataclass(frozen=True, slots=True)
class OutputLength:
    """A distribution of lengths in output tokens, the end of sequence included, as usage counts it.

    `spec` is what it was read from. A length is at least 1; `max_tokens` cuts what is longer.
    """

    spec: str
    _draw: _Draw | None

    @property
    def needs_dataset(self) -> bool:
        """Whether lengths are those of a dataset's answers."""
        return self.spec == "dataset"

    def draw(self, question: Question, rng: Random, dataset_lengths: Sequence[int] = ()) -> int | None:
        """Return the length of the answer to a question, None for an answer that goes on for as long as it may."""
        if self.needs_dataset:
            return max(1, rng.choice(dataset_lengths))
        if self._draw is None or (self.spec == "auto" and question.limits_itself):
            return None
        return max(1, round(min(self._draw(rng), _MAX_LENGTH_TOKENS)))


def parse_output_length(spec: str) -> OutputLength:
    """Return the distribution that a spec describes; raises UsageError for one that describes none.

    `max-tokens` (as long as allowed, no end of sequence), `fixed:200`, `uniform:50-200`, `normal:MEAN,DEVIATION`,
    `lognormal:MEDIAN,SIGMA`, `exponential:MEAN`, `dataset` (lengths of a dataset's answers), or `auto`: `max-tokens`
    where the request limits itself, since benchmarks rely on it, else lognormal:200,0.6, since a chat without a
    limit would run to the context's end.
    """
    kind, _, parameters = spec.strip().partition(":")
    if kind not in _FORMS:
        raise unknown_name("output length", kind, _FORMS)
    if kind in {"max-tokens", "dataset"} and spec.strip() == kind:
        return OutputLength(kind, None)
    if kind == "auto" and not parameters:
        return OutputLength(kind, _lognormal(_DEFAULT_MEDIAN_TOKENS, _DEFAULT_SIGMA))
    numbers = _numbers(parameters, "-" if kind == "uniform" else ",")
    is_sane = numbers and numbers[0] >= 1 and max(numbers) <= _MAX_LENGTH_TOKENS
    draw = _distribution(kind, numbers) if is_sane else None
    if draw is None:
        raise UsageError(
            f"the output length {spec!r} is not of the form {_FORMS[kind]}"
            f" (in tokens, from 1 to {_MAX_LENGTH_TOKENS:,})"
        )
    return OutputLength(spec.strip(), draw)


def _numbers(text: str, separator: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(separator)]
    except ValueError:
        return []
    return numbers if all(math.isfinite(number) for number in numbers) else []


def _distribution(kind: str, numbers: Sequence[float]) -> _Draw | None:
    """Return how to draw, None if the numbers are not what the kind takes."""
    match kind, numbers:
        case "fixed", [length] if length.is_integer():
            return lambda _rng: length
        case "uniform", [lowest, highest] if (
            lowest.is_integer() and highest.is_integer() and lowest <= highest
        ):
            return lambda rng: rng.randint(int(lowest), int(highest))
        case "normal", [mean, deviation] if deviation >= 0:
            return lambda rng: rng.gauss(mean, deviation)
        case "lognormal", [median, sigma] if 0 <= sigma <= _MAX_SIGMA:
            return _lognormal(median, sigma)
        case "exponential", [mean]:
            return lambda rng: rng.expovariate(1 / mean)
        case _:
            return None


def _lognormal(median: float, sigma: float) -> _Draw:
    return lambda rng: rng.lognormvariate(math.log(median), sigma)
