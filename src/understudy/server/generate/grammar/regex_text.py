"""Texts that match regular expressions."""

from collections.abc import Sequence
from random import Random

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.expression import Expression
from understudy.server.generate.grammar.match import Matcher
from understudy.server.generate.grammar.write import TextWriter
from understudy.server.generate.work import Work

_FREE_TRIES = 20
_AIMED_TRIES = 60

_COST_OF_A_CHARACTER = 2


def write_regex(
    expression: Expression,
    rng: Random,
    work: Work,
    *,
    also: Sequence[Expression] = (),
    lengths: range | None = None,
) -> str:
    """Return a text that `expression` matches as a whole, and each of `also` somewhere, of one of `lengths` if given.

    Raises ConstraintError if none is found, which need not mean that there is none.
    """
    writer = TextWriter(expression, {}, work)
    spare = 0
    for number in range(_FREE_TRIES + _AIMED_TRIES):
        is_free = number < _FREE_TRIES
        text = writer.text(rng) if is_free else writer.text(rng, spare=spare, spends_all=True)
        if lengths is not None and len(text) not in lengths:
            short_by = (
                lengths.start - len(text) if len(text) < lengths.start else lengths.stop - 1 - len(text)
            )
            spare = max(0, spare + _COST_OF_A_CHARACTER * short_by)
            continue
        matcher = Matcher(text, work)
        if matcher.fits_whole(expression) and all(matcher.fits_somewhere(other) for other in also):
            return text
    raise ConstraintError("no text is found that a pattern matches")
