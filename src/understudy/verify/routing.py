"""The router's longest prefixes against a brute-force search, over random stories of what workers cache.

vLLM has no router of this kind, so the yardstick is the definition: how many blocks of a prompt, from the first on,
a worker holds.
"""

import random
from collections import Counter
from collections.abc import Sequence

from understudy.routing import PrefixIndex
from understudy.verify.tally import Tallies

STORIES = 60
EVENTS_A_STORY = 120
_FLEETS = (1, 2, 3, 8, 33, 65, 70)
_PROMPT_BLOCKS = 12


def compare_routing(seed: int) -> Tallies:
    """Tell an index and a multiset of hashes a worker the same stories; ask both for a prompt after each event."""
    tallies = Tallies()
    for number in range(STORIES):
        _Story(_rng(seed, number), f"story {number}").compare(tallies)
    return tallies


def _rng(seed: int, story: int) -> random.Random:
    return random.Random(f"routing {seed} {story}")


class _Story:
    """Prompts branch off one another, so that workers hold different lengths of the same prefix."""

    def __init__(self, rng: random.Random, name: str) -> None:
        self._rng = rng
        self._name = name
        self._num_workers = rng.choice(_FLEETS)
        self._index = PrefixIndex(self._num_workers)
        self._held: list[Counter[int]] = [Counter() for _ in range(self._num_workers)]
        trunk = [rng.getrandbits(64) for _ in range(_PROMPT_BLOCKS)]
        self._prompts = [trunk, *(self._branch(trunk) for _ in range(5))]

    def compare(self, tallies: Tallies) -> None:
        for event in range(EVENTS_A_STORY):
            self._tell()
            prompt = self._rng.choice(self._prompts)
            searched = [_leading_blocks(held, prompt) for held in self._held]
            found = self._index.longest_prefixes(prompt)
            tallies.compare("longest_prefix_routing", f"{self._name}, event {event}", searched, found)

    def _branch(self, trunk: Sequence[int]) -> list[int]:
        shared = self._rng.randrange(_PROMPT_BLOCKS)
        return [*trunk[:shared], *(self._rng.getrandbits(64) for _ in range(_PROMPT_BLOCKS - shared))]

    def _tell(self) -> None:
        rng = self._rng
        worker = rng.randrange(self._num_workers)
        index, held = self._index, self._held[worker]
        prompt = rng.choice(self._prompts)
        kind = rng.random()
        if kind < 0.55:
            stored = prompt[: rng.randint(1, _PROMPT_BLOCKS)]
            index.stored(worker, stored)
            held.update(stored)
        elif kind < 0.9:
            removed = rng.sample(prompt, rng.randint(1, 4))
            index.removed(worker, removed)
            self._held[worker] = held - Counter(removed)
        elif kind < 0.97:
            all_blocks = [*prompt[: rng.randint(0, _PROMPT_BLOCKS)], *rng.sample(prompt, 2)]
            index.replace(worker, all_blocks)
            self._held[worker] = Counter(all_blocks)
        else:
            index.cleared(worker)
            held.clear()


def _leading_blocks(held: Counter[int], prompt: Sequence[int]) -> int:
    return next((depth for depth, block in enumerate(prompt) if not held[block]), len(prompt))
