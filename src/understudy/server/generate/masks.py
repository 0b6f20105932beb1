"""Which tokens a request lets the model say, as vLLM masks its logits."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, repeat
from random import Random

from understudy.server.generate.question import Question

BANNED_BIAS = -100.0
"""The lowest bias that vLLM keeps (it clamps to ±100): a token that has it is never said."""

HIGHEST_BIAS = 100.0

NOTHING_ALLOWED_TOKEN_ID = 0
"""What an argmax over logits that are all minus infinity gives."""

_DRAWN_AT_ONCE = 64


class SharedMask:
    """What a request forbids all the time, over a vocabulary of `words`: the same for all its samples.

    A bias may be one of the whole vocabulary, so what it comes to is worked out once.
    """

    __slots__ = (
        "_allowed",
        "_bad_words",
        "_bias",
        "_eos_token_id",
        "_words",
        "banned",
        "candidates",
        "weights",
    )

    def __init__(self, question: Question, words: Sequence[int]) -> None:
        self._words = words
        self._bias = question.logit_bias
        self._bad_words = question.bad_words_token_ids
        self._allowed = question.allowed_token_ids
        self._eos_token_id = question.eos_token_id
        banned = {token for token, bias in question.logit_bias.items() if bias <= BANNED_BIAS}
        banned.update(bad[0] for bad in question.bad_words_token_ids if len(bad) == 1)
        self.banned = frozenset(banned)
        self.candidates = self._candidates()
        self.weights = self._cumulative_weights()

    def is_of(self, question: Question) -> bool:
        """Whether this is the mask of a question: its parts are the very same objects, for comparing them takes as long."""
        return (
            question.logit_bias is self._bias
            and question.bad_words_token_ids is self._bad_words
            and question.allowed_token_ids is self._allowed
            and question.eos_token_id == self._eos_token_id
        )

    def may_say(self, token_id: int) -> bool:
        """Whether the token is not forbidden."""
        return token_id not in self.banned and (self._allowed is None or token_id in self._allowed)

    def _candidates(self) -> Sequence[int]:
        if not self._bias and not self.banned and self._allowed is None:
            return self._words
        known = set(self._words)
        favoured = [token for token, bias in self._bias.items() if bias > 0 and token not in known]
        found = [token for token in (*self._words, *sorted(favoured)) if self.may_say(token)]
        if found:
            return found
        allowed = [token for token in sorted(self._allowed or ()) if self.may_say(token)]
        return [token for token in allowed if token != self._eos_token_id] or allowed

    def _cumulative_weights(self) -> Sequence[float] | None:
        if not self._bias or not self.candidates:
            return None
        exponents = [min(self._bias.get(token, 0.0), HIGHEST_BIAS) for token in self.candidates]
        highest = max(exponents)
        return list(accumulate(math.exp(exponent - highest) for exponent in exponents))


class SharedMasks:
    """The masks over one vocabulary; the last one is kept, since the samples of a request come one after the other."""

    def __init__(self, words: Sequence[int]) -> None:
        self._words = words
        self._last: SharedMask | None = None

    def of(self, question: Question) -> SharedMask:
        """Return the mask of a question."""
        last = self._last
        if last is None or not last.is_of(question):
            last = SharedMask(question, self._words)
            self._last = last
        return last


class Masks:
    """The masks of one question, given what they share with the request's others.

    `is_open` tells that nothing is masked but the end of sequence; then nobody needs to ask `allows` of other tokens.
    """

    __slots__ = ("_bad_words", "_question", "_shared", "is_open")

    def __init__(self, question: Question, shared: SharedMask) -> None:
        self._question = question
        self._shared = shared
        self._bad_words = [tuple(bad) for bad in question.bad_words_token_ids if len(bad) > 1]
        self.is_open = not (
            question.logit_bias
            or question.bad_words_token_ids
            or question.allowed_token_ids is not None
            or (question.min_tokens and question.stop_token_ids)
        )

    def may_ever_say(self, token_id: int) -> bool:
        """Whether no mask that holds all the time forbids the token."""
        return self._shared.may_say(token_id)

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

    def word_stream(self, make_rng: Callable[[], Random]) -> Iterator[int]:
        """Yield words by chance, without end. What comes does not depend on how many are read at a time.

        All words are as likely, but for the request's biases; a token of a positive bias is as good as a word. Where
        none of the words may be said, all that is allowed is. The source of chance, of 2.5 KiB, is made for the first.
        """
        candidates = self.candidates()
        if not candidates:
            yield from repeat(NOTHING_ALLOWED_TOKEN_ID)
        rng = make_rng()
        while True:
            yield from rng.choices(candidates, cum_weights=self._shared.weights, k=_DRAWN_AT_ONCE)

    def candidates(self) -> Sequence[int]:
        """Return all that may be said in place of a word."""
        return self._shared.candidates

    def any_allowed(self, said: Sequence[int]) -> int:
        """Return the first token that may come after `said`."""
        may_come = (token for token in self.candidates() if self.allows(token, said))
        return next(may_come, NOTHING_ALLOWED_TOKEN_ID)
