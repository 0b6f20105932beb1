"""Log probabilities that look like a model's: seeded, consistent with each other, and without a model.

At each position the token of rank i has the probability i^-s / (1 + 1/(s-1)), a power law whose sum stays below 1
for any vocabulary; s is drawn from the key, and so is the rank of the token that was said.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

_LEAST_EXPONENT = 1.5
_EXPONENT_RANGE = 5.0

_UNIT = 2.0**-64


class TokenLogprobs(NamedTuple):
    """What is told of one token: its own, and the most likely tokens, best first.

    `rank` counts from 1. `top` holds at most the vocabulary, and the token itself where its rank is good enough.
    """

    logprob: float
    rank: int
    top: list[tuple[int, float]]


def logprobs_for(
    token_id: int,
    position: int,
    question_key: bytes,
    top_k: int,
    vocabulary_size: int,
    *,
    greedy: bool = False,
) -> TokenLogprobs:
    """Return the log probabilities at an output position; `top_k` -1 means the whole vocabulary.

    With `greedy` the token is the most likely one, as at temperature 0. A shorter `top` is the beginning of a longer.
    """
    return _logprobs(token_id, b"o%d" % position, question_key, top_k, vocabulary_size, greedy=greedy)


def prompt_logprobs_for(
    prompt_token_ids: Sequence[int], question_key: bytes, top_k: int, vocabulary_size: int
) -> list[TokenLogprobs | None]:
    """Return the log probabilities of a prompt's tokens, None for the first, which follows nothing."""
    scored = [
        _logprobs(token_id, b"p%d" % position, question_key, top_k, vocabulary_size, greedy=False)
        for position, token_id in enumerate(prompt_token_ids[1:], start=1)
    ]
    return [None, *scored] if prompt_token_ids else []


def logprob_of(
    other_id: int,
    token_id: int,
    position: int,
    question_key: bytes,
    vocabulary_size: int,
    *,
    greedy: bool = False,
) -> float:
    """Return the log probability of any token at the output position at which `token_id` was said."""
    assert max(token_id, other_id) < vocabulary_size, "token ids are smaller than the vocabulary"
    law = _Law(b"o%d" % position, question_key, vocabulary_size, greedy=greedy)
    return law.logprob(law.rank if other_id == token_id else law.rank_of(other_id, token_id))


def _logprobs(
    token_id: int, place: bytes, key: bytes, top_k: int, vocabulary_size: int, *, greedy: bool
) -> TokenLogprobs:
    law = _Law(place, key, vocabulary_size, greedy=greedy)
    num_listed = vocabulary_size if top_k < 0 else min(top_k, vocabulary_size)
    token_ids = law.others(token_id, num_listed)
    if law.rank <= num_listed:
        token_ids.insert(law.rank - 1, token_id)
    top = [(listed, law.logprob(rank)) for rank, listed in enumerate(token_ids[:num_listed], start=1)]
    return TokenLogprobs(law.logprob(law.rank), law.rank, top)


class _Law:
    """The distribution at one place: its exponent, the rank of the token that was said, and who comes in which order.

    The other tokens are told apart by multiples of a step that is prime to their number, so that all differ.
    """

    def __init__(self, place: bytes, key: bytes, vocabulary_size: int, *, greedy: bool) -> None:
        digest = blake2b(place, key=key, digest_size=32).digest()
        exponent_draw, rank_draw, self._first, step = (
            int.from_bytes(digest[start : start + 8], "little") for start in range(0, 32, 8)
        )
        self._exponent = _LEAST_EXPONENT + _EXPONENT_RANGE * exponent_draw * _UNIT
        self._best = -math.log1p(1 / (self._exponent - 1))
        share = (rank_draw + 1) * _UNIT
        drawn_rank = int(share ** (-1 / (self._exponent - 1)))
        self.rank = 1 if greedy else min(vocabulary_size, drawn_rank)
        self._num_others = max(1, vocabulary_size - 1)
        self._has_others = vocabulary_size > 1
        self._step = step % self._num_others
        while math.gcd(self._step, self._num_others) != 1:
            self._step += 1

    def logprob(self, rank: int) -> float:
        return self._best - self._exponent * math.log(rank)

    def others(self, token_id: int, count: int) -> list[int]:
        """Return the likeliest tokens that are not `token_id`."""
        count = min(count, self._num_others) if self._has_others else 0
        places = ((self._first + index * self._step) % self._num_others for index in range(count))
        return [place + (place >= token_id) for place in places]

    def rank_of(self, other_id: int, token_id: int) -> int:
        """Return the rank of a token that is not `token_id`, which was said."""
        place = other_id - (other_id > token_id)
        index = (place - self._first) * pow(self._step, -1, self._num_others) % self._num_others
        return index + 1 if index + 1 < self.rank else index + 2
