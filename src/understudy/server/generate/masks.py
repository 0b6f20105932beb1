"""Which tokens a request lets the model say, as vLLM masks its logits."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from random import Random

from understudy.server.generate.question import Question

BANNED_BIAS = -100.0
"""The lowest bias that vLLM keeps (it clamps to ±100): a token that has it is never said."""

HIGHEST_BIAS = 100.0

NOTHING_ALLOWED_TOKEN_ID = 0
"""What an argmax over logits that are all minus infinity gives."""

_DRAWN_AT_ONCE = 64


class Masks:
    """The masks of one question, over a vocabulary of `words`.

    `is_open` tells that nothing is masked but the end of sequence; then nobody needs to ask `allows` of other tokens.
    """

    __slots__ = ("_bad_words", "_banned", "_candidates", "_question", "_words", "is_open")

    def __init__(self, question: Question, words: Sequence[int]) -> None:
        self._question = question
        self._words = words
        banned = {token for token, bias in question.logit_bias.items() if bias <= BANNED_BIAS}
        banned.update(bad[0] for bad in question.bad_words_token_ids if len(bad) == 1)
        self._banned = frozenset(banned)
        self._bad_words = [tuple(bad) for bad in question.bad_words_token_ids if len(bad) > 1]
        self._candidates: Sequence[int] | None = None
        self.is_open = not (
            question.logit_bias
            or question.bad_words_token_ids
            or question.allowed_token_ids is not None
            or (question.min_tokens and question.stop_token_ids)
        )

    def may_ever_say(self, token_id: int) -> bool:
        """Whether no mask that holds all the time forbids the token."""
        allowed = self._question.allowed_token_ids
        return token_id not in self._banned and (allowed is None or token_id in allowed)

    def allows(self, token_id: int, said: Sequence[int]) -> bool:
        """Whether the token may come after `said`, all output tokens so far."""
        question = self._question
        if len(said) < question.min_tokens and (
            token_id == question.eos_token_id or token_id in question.stop_token_ids
        ):
            return False
        return self.may_ever_say(token_id) and not any(
            bad[-1] == token_id
            and len(said) >= len(bad) - 1
            and tuple(said[len(said) - len(bad) + 1 :]) == bad[:-1]
            for bad in self._bad_words
        )

    def word_stream(self, rng: Random) -> Iterator[int]:
        """Yield words by chance, without end. What comes does not depend on how many are read at a time.

        All words are as likely, but for the request's biases; a token of a positive bias is as good as a word. Where
        none of the words may be said, all that is allowed is.
        """
        if self.is_open:
            return _drawn(self._words, None, rng)
        candidates = self.candidates()
        if not candidates:
            return repeat(NOTHING_ALLOWED_TOKEN_ID)
        bias = self._question.logit_bias
        if not bias:
            return _drawn(candidates, None, rng)
        exponents = [min(bias.get(token, 0.0), HIGHEST_BIAS) for token in candidates]
        highest = max(exponents)
        weights = [math.exp(exponent - highest) for exponent in exponents]
        return _drawn(candidates, list(accumulate(weights)), rng)

    def candidates(self) -> Sequence[int]:
        """Return all that may be said in place of a word."""
        if self._candidates is None:
            question = self._question
            known = set(self._words)
            favoured = [
                token for token, bias in question.logit_bias.items() if bias > 0 and token not in known
            ]
            found = [token for token in (*self._words, *sorted(favoured)) if self.may_ever_say(token)]
            if not found:
                allowed = [
                    token for token in sorted(question.allowed_token_ids or ()) if self.may_ever_say(token)
                ]
                found = [token for token in allowed if token != question.eos_token_id] or allowed
            self._candidates = found
        return self._candidates

    def any_allowed(self, said: Sequence[int]) -> int:
        """Return the first token that may come after `said`."""
        may_come = (token for token in self.candidates() if self.allows(token, said))
        return next(may_come, NOTHING_ALLOWED_TOKEN_ID)


def _drawn(words: Sequence[int], cumulative: Sequence[float] | None, rng: Random) -> Iterator[int]:
    while True:
        yield from rng.choices(words, cum_weights=cumulative, k=_DRAWN_AT_ONCE)
