"""All that a router knows of its fleet, kept up to date by telling it what happens.

Whoever drives it decides when a piece of news is known: it calls the methods at that time. Nothing here
knows of delays, nor what the workers really hold.
"""

from collections.abc import Hashable, Sequence
from enum import StrEnum
from typing import NamedTuple

from understudy.routing.prefix_index import PrefixIndex
from understudy.routing.recent_prefix_index import RecentPrefixIndex
from understudy.routing.views import Decision, FleetView, RoutingRequest, WorkerView

GUESSED_BLOCKS_PER_WORKER = 31_250
"""How many blocks a worker a guessing router remembers: llm-d's default for its approximate prefix index."""

NS_PER_SECOND = 1_000_000_000


class Knowledge(StrEnum):
    """Where a router's knowledge comes from."""

    EXACT = "exact"
    """KV events and load as they are, at once."""
    EVENTS = "events"
    """KV events, late, and load from heartbeats, late."""
    HEARTBEAT = "heartbeat"
    """No events: load from heartbeats and, less often, a list of all blocks held, both late."""
    OWN = "own"
    """No news from the workers: only what the router itself sent."""


class _InFlight(NamedTuple):
    worker: int
    prompt_tokens: int
    blocks: int
    prefill_blocks: int


class RouterState:
    """What a router with one kind of knowledge knows of `num_workers` workers.

    A router of the kind "own" takes the full blocks of a prompt to be cached where it sent it, for the last
    `max_guessed_blocks` blocks of each worker.
    """

    def __init__(
        self,
        num_workers: int,
        knowledge: Knowledge,
        max_guessed_blocks: int = GUESSED_BLOCKS_PER_WORKER,
    ) -> None:
        self.knowledge = knowledge
        guesses = knowledge is Knowledge.OWN
        self.index = (
            RecentPrefixIndex(num_workers, max_guessed_blocks) if guesses else PrefixIndex(num_workers)
        )
        self._views = [WorkerView(index=worker) for worker in range(num_workers)]
        self._reported_at_ns: list[int | None] = [None] * num_workers
        self._in_flight: dict[str, _InFlight] = {}

    def __len__(self) -> int:
        return len(self._views)

    def views_at(self, now_ns: int) -> Sequence[WorkerView]:
        """Return all workers by index, the age of their reports as of this time."""
        for view, reported_at_ns in zip(self._views, self._reported_at_ns, strict=True):
            if reported_at_ns is not None:
                view.age_seconds = (now_ns - reported_at_ns) / NS_PER_SECOND
        return self._views

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """Return for each worker how many blocks from the start of the prompt it is known to hold.

        The engine computes at least the last token of a prompt itself, so it can use one block less where
        the match ends with the prompt.
        """
        return self.index.longest_prefixes(request.block_hashes)

    def fleet_at(self, now_ns: int) -> FleetView:
        """Return what a policy may look at to decide at this time; nothing is computed before it looks."""
        return _FleetAt(self, now_ns)

    def dispatched(self, request: RoutingRequest, decision: Decision) -> None:
        """Note that a request, whose id is none of those in flight, is on its way to the decision's worker."""
        assert request.request_id not in self._in_flight
        blocks = request.num_blocks
        entry = _InFlight(
            worker=decision.worker,
            prompt_tokens=request.num_prompt_tokens,
            blocks=blocks,
            prefill_blocks=blocks - decision.matched_blocks,
        )
        self._in_flight[request.request_id] = entry
        view = self._views[entry.worker]
        view.requests_routed += 1
        view.in_flight += 1
        view.in_flight_prompt_tokens += entry.prompt_tokens
        view.active_prefill_blocks += entry.prefill_blocks
        view.active_decode_blocks += blocks
        if self.knowledge is Knowledge.OWN:
            self.index.stored(entry.worker, request.block_hashes)

    def first_token(self, request_id: str, worker: int) -> None:
        """Note that the prompt of a request in flight has been computed."""
        entry = self._in_flight[request_id]
        assert entry.worker == worker
        self._views[worker].active_prefill_blocks -= entry.prefill_blocks
        self._in_flight[request_id] = entry._replace(prefill_blocks=0)

    def finished(self, request_id: str, worker: int) -> None:
        """Note that a request in flight has ended, in whatever way."""
        entry = self._in_flight.pop(request_id)
        assert entry.worker == worker
        view = self._views[worker]
        view.in_flight -= 1
        view.in_flight_prompt_tokens -= entry.prompt_tokens
        view.active_prefill_blocks -= entry.prefill_blocks
        view.active_decode_blocks -= entry.blocks

    def reported(self, worker: int, running: int, waiting: int, kv_usage: float, at_ns: int) -> None:
        """Note the load of a worker as it was at `at_ns`."""
        assert self.knowledge is not Knowledge.OWN
        view = self._views[worker]
        view.running = running
        view.waiting = waiting
        view.kv_usage = kv_usage
        self._reported_at_ns[worker] = at_ns

    def stored(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note a KV event: the worker has cached these blocks."""
        self._assert_hears_events()
        self.index.stored(worker, hashes)

    def removed(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note a KV event: the worker has dropped one copy of each of these blocks."""
        self._assert_hears_events()
        self.index.removed(worker, hashes)

    def cleared(self, worker: int) -> None:
        """Note a KV event: the worker has dropped all blocks."""
        self._assert_hears_events()
        self.index.cleared(worker)

    def synchronised(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note a worker's list of all blocks that it holds, a hash once for each copy."""
        assert self.knowledge is not Knowledge.OWN
        self.index.replace(worker, hashes)

    def _assert_hears_events(self) -> None:
        assert self.knowledge in (Knowledge.EXACT, Knowledge.EVENTS)


class _FleetAt:
    """A `FleetView` of a router's state at one time."""

    def __init__(self, state: RouterState, now_ns: int) -> None:
        self._state = state
        self._now_ns = now_ns

    def __len__(self) -> int:
        return len(self._state)

    @property
    def workers(self) -> Sequence[WorkerView]:
        """All workers, by index."""
        return self._state.views_at(self._now_ns)

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """Return for each worker how many blocks from the start of the prompt it is known to hold."""
        return self._state.matched_blocks(request)
