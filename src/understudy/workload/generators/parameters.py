"""What all generators have in common: their parameters, and where chance and token ids come from."""

from collections.abc import Iterator
from random import Random
from typing import Annotated, Protocol

import msgspec

from understudy.tokenize import VOCABULARY_SIZE
from understudy.workload.fields import MAX_TOKENS
from understudy.workload.request import WorkloadRequest
from understudy.workload.timing import MAX_RATE, MIN_RATE

_MAX_COUNT = 1_000_000_000
_MAX_SEED = (1 << 63) - 1
_MAX_SECONDS = 1_000_000.0
_NUM_SPECIAL_IDS = 1000
_TOKEN_IDS = tuple(range(_NUM_SPECIAL_IDS, VOCABULARY_SIZE))

Count = Annotated[int, msgspec.Meta(ge=1, le=_MAX_COUNT, description=f"an integer from 1 to {_MAX_COUNT:,}")]
Seed = Annotated[int, msgspec.Meta(ge=0, le=_MAX_SEED, description=f"an integer from 0 to {_MAX_SEED:,}")]
Tokens = Annotated[
    int, msgspec.Meta(ge=1, le=MAX_TOKENS, description=f"a positive integer of at most {MAX_TOKENS:,}")
]
Rate = Annotated[
    float,
    msgspec.Meta(
        ge=MIN_RATE, le=MAX_RATE, description=f"a number from {MIN_RATE:g} to {MAX_RATE:g} a second"
    ),
]
Seconds = Annotated[
    float, msgspec.Meta(ge=0.0, le=_MAX_SECONDS, description=f"a number from 0 to {_MAX_SECONDS:g}")
]


class Generator(Protocol):
    """The parameters of a generator, and what it makes of them."""

    @property
    def requests(self) -> int:
        """How many requests it makes."""
        ...

    @property
    def longest_prompt_tokens(self) -> int:
        """Upper bound of its prompts, which must be within MAX_TOKENS."""
        ...

    def generate(self) -> Iterator[WorkloadRequest]:
        """Yield the requests in the order of their arrival, never holding them all."""
        ...


class CommonParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`requests` in all, `rate` a second on average, arriving as a Poisson process unless stated."""

    requests: Count = 1000
    seed: Seed = 0
    rate: Rate = 4.0


def chance(seed: int, purpose: str) -> Random:
    """Return a source of chance for one purpose, so that drawing for one never disturbs another."""
    return Random(f"{purpose}:{seed}")


def random_tokens(rng: Random, num_tokens: int) -> tuple[int, ...]:
    """Return token ids that every model of the catalogue knows and that are special in none."""
    return tuple(rng.choices(_TOKEN_IDS, k=num_tokens))


def around(rng: Random, mean: int) -> int:
    """Return a length drawn evenly between half and one and a half times the mean."""
    half = mean // 2
    return rng.randint(mean - half, mean + half)


def at_most(mean: int) -> int:
    """Return the most that `around` gives."""
    return mean + mean // 2
