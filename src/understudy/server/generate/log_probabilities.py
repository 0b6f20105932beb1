"""Log probabilities that look like a model's: seeded, consistent with each other, and without a model.

At each position the token of rank i has the probability i^-s / (1 + 1/(s-1)), a power law whose sum stays below 1
for any vocabulary; s is drawn from the key, and so is the rank of the token that was said.
"""

import functools
import math
import struct
from collections.abc import Sequence
from hashlib import blake2b

_LEAST_EXPONENT = 1.5
_EXPONENT_RANGE = 5.0

_UNIT = 2.0**-64

_FOUR_DRAWS = struct.Struct("<4Q").unpack

_SCATTER = 0xFFF
"""Bits by which tokens beyond the vocabulary are put in an order of their own at each place."""


class DrawnLogprobs:
    """What is told of one token: its own log probability and rank, counted from 1, and on demand the most likely tokens.

    These are at most the vocabulary, best first, the token itself among them where its rank is good enough. They are worked
    out whenever they are read: a long prompt has millions.
    """

    __slots__ = ("_law", "_num_listed", "_token_id", "logprob", "rank")

    def __init__(self, law: "_Law", token_id: int, num_listed: int) -> None:
        self.logprob = law.logprob(law.rank)
        self.rank = law.rank
        self._law = law
        self._token_id = token_id
        self._num_listed = num_listed

    def __len__(self) -> int:
        """How many tokens are told of: the listed, and the token itself where it is not among them."""
        return self._num_listed + (self.rank > self._num_listed)

    @property
    def top(self) -> list[tuple[int, float]]:
        """The most likely tokens with their log probabilities."""
        token_ids = self._law.others(self._token_id, self._num_listed)
        if self.rank <= self._num_listed:
            token_ids.insert(self.rank - 1, self._token_id)
            del token_ids[self._num_listed :]
        return list(zip(token_ids, self._law.best(self._num_listed), strict=True))


def logprobs_for(
    token_id: int,
    position: int,
    question_key: bytes,
    top_k: int,
    vocabulary_size: int,
    *,
    greedy: bool = False,
) -> DrawnLogprobs:
    """Return the log probabilities at an output position; `top_k` -1 means the whole vocabulary.

    With `greedy` the token is the most likely one, as at temperature 0. A shorter `top` is the beginning of a longer.
    """
    return _logprobs(token_id, b"o%d" % position, question_key, top_k, vocabulary_size, greedy=greedy)


def prompt_logprobs_for(
    prompt_token_ids: Sequence[int], question_key: bytes, top_k: int, vocabulary_size: int
) -> list[DrawnLogprobs | None]:
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
    """Return the log probability of any token at the output position at which `token_id` was said.

    Tokens beyond the vocabulary come after all of it, in an order of their own.
    """
    law = _Law(b"o%d" % position, question_key, vocabulary_size, greedy=greedy)
    return law.logprob(law.rank if other_id == token_id else law.rank_of(other_id, token_id))


def _logprobs(
    token_id: int, place: bytes, key: bytes, top_k: int, vocabulary_size: int, *, greedy: bool
) -> DrawnLogprobs:
    law = _Law(place, key, vocabulary_size, greedy=greedy)
    return DrawnLogprobs(law, token_id, vocabulary_size if top_k < 0 else min(top_k, vocabulary_size))


@functools.lru_cache(maxsize=4)
def _logarithms(count: int) -> list[float]:
    return [math.log(rank) for rank in range(1, count + 1)]


class _Law:
    """The distribution at one place: its exponent, the rank of the token that was said, and who comes in which order.

    The other tokens are told apart by multiples of a step that is prime to their number, so that all differ.
    """

    __slots__ = ("_best", "_exponent", "_first", "_num_others", "_step", "rank")

    def __init__(self, place: bytes, key: bytes, vocabulary_size: int, *, greedy: bool) -> None:
        draws: tuple[int, int, int, int] = _FOUR_DRAWS(blake2b(place, key=key, digest_size=32).digest())
        exponent_draw, rank_draw, self._first, step = draws
        self._exponent = _LEAST_EXPONENT + _EXPONENT_RANGE * exponent_draw * _UNIT
        self._best = -math.log1p(1 / (self._exponent - 1))
        share = (rank_draw + 1) * _UNIT
        drawn_rank = int(share ** (-1 / (self._exponent - 1)))
        self.rank = 1 if greedy else min(vocabulary_size, drawn_rank)
        self._num_others = vocabulary_size - 1
        self._step = step % max(1, self._num_others) or 1
        while self._num_others and math.gcd(self._step, self._num_others) != 1:
            self._step += 1

    def logprob(self, rank: int) -> float:
        return self._best - self._exponent * math.log(rank)

    def best(self, count: int) -> list[float]:
        """Return the log probabilities of the first ranks."""
        best, exponent = self._best, self._exponent
        return [best - exponent * logarithm for logarithm in _logarithms(count)]

    def others(self, token_id: int, count: int) -> list[int]:
        """Return the likeliest tokens that are not `token_id`."""
        num_others = self._num_others
        if not num_others:
            return []
        count = min(count, num_others)
        start = self._first % num_others
        places = [at % num_others for at in range(start, start + count * self._step, self._step)]
        return [place + 1 if place >= token_id else place for place in places]

    def rank_of(self, other_id: int, token_id: int) -> int:
        """Return the rank of a token that is not `token_id`, which was said; no two tokens have the same."""
        place = other_id - (other_id > token_id)
        beyond = place - self._num_others
        if beyond >= 0:
            return self._num_others + 2 + (beyond ^ (self._first & _SCATTER))
        index = (place - self._first) * pow(self._step, -1, self._num_others) % self._num_others
        return index + 1 if index + 1 < self.rank else index + 2
