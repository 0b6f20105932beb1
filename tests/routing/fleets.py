"""Fleets and requests for the tests of policies."""

import random
from collections.abc import Sequence
from typing import NoReturn

from hypothesis import strategies as st

from understudy.routing import PolicyMemory, RoutingRequest, WorkerView


class FixedFleet:
    """A fleet with these views, holding this many blocks of every prompt; counts what a policy looked at."""

    def __init__(
        self, workers: Sequence[WorkerView], matched: Sequence[int], keys: Sequence[int] | None = None
    ) -> None:
        self.slots = range(len(workers))
        self.keys = self.slots if keys is None else keys
        self._workers = workers
        self._matched = matched
        self.looks_at_workers = 0
        self.looks_at_matches = 0

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def workers(self) -> Sequence[WorkerView]:
        """All workers, by index."""
        self.looks_at_workers += 1
        for index, view in enumerate(self._workers):
            view.index = index
        return self._workers

    def matched_blocks(self, _request: RoutingRequest) -> Sequence[int]:
        """Return the fixed matches."""
        self.looks_at_matches += 1
        return self._matched


class SizeOnlyFleet:
    """A fleet of which a policy may know nothing but who is there."""

    def __init__(self, size: int) -> None:
        self.slots = self.keys = range(size)
        self._size = size

    def __len__(self) -> int:
        return self._size

    @property
    def workers(self) -> NoReturn:
        """Fail: nobody may look."""
        raise AssertionError("the policy looked at the workers")

    def matched_blocks(self, _request: RoutingRequest) -> NoReturn:
        """Fail: nobody may look."""
        raise AssertionError("the policy looked at the matches")


def fleet_with(in_flight: Sequence[int], matched: Sequence[int] | None = None) -> FixedFleet:
    """Return a fleet with these loads; nothing is cached unless said."""
    views = [WorkerView(index=index, in_flight=load) for index, load in enumerate(in_flight)]
    return FixedFleet(views, [0] * len(views) if matched is None else matched)


def request_of(blocks: int = 10, *, session_id: str | None = None, name: str = "r1") -> RoutingRequest:
    """Return a request whose prompt fills this many blocks of 16 tokens exactly."""
    return RoutingRequest(
        request_id=name,
        num_prompt_tokens=16 * blocks,
        block_hashes=range(blocks),
        block_size=16,
        session_id=session_id,
    )


def fresh_memory(seed: int = 0, decisions: int = 0, turn: int = 0) -> PolicyMemory:
    """Return a memory at the start of a run, or as if this many decisions had been made."""
    return PolicyMemory(random.Random(seed), decisions=decisions, turn=turn)


PROMPT_BLOCKS = 10


_small = st.integers(0, 3)
_workers_and_matches = st.lists(
    st.tuples(
        st.builds(
            WorkerView,
            index=st.just(0),
            in_flight=_small | st.integers(0, 200),
            waiting=_small,
            kv_usage=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
            active_prefill_blocks=st.integers(0, 20),
            active_decode_blocks=st.integers(0, 20),
        ),
        _small | st.integers(0, PROMPT_BLOCKS),
    ),
    min_size=1,
    max_size=5,
)


def _fleet(drawn: list[tuple[WorkerView, int]]) -> FixedFleet:
    for index, (view, _) in enumerate(drawn):
        view.index = index
    return FixedFleet([view for view, _ in drawn], [blocks for _, blocks in drawn])


fleets = _workers_and_matches.map(_fleet)
"""Any fleet of 1 to 5 workers for a prompt of PROMPT_BLOCKS blocks; few different values, so that ties occur."""
