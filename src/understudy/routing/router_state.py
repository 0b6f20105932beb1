"""All that a router knows of its fleet, kept up to date by telling it what happens.

Whoever drives it decides when a piece of news is known: it calls the methods at that time. Nothing here
knows of delays, nor what the workers really hold.
"""

import heapq
from collections.abc import Hashable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from understudy.routing.guessed_blocks import GuessedBlocks
from understudy.routing.prefix_index import PrefixIndex
from understudy.routing.views import Decision, FleetView, RoutingRequest, WorkerView

GUESSED_BLOCKS_PER_WORKER = 31_250
"""How many blocks a worker a guessing router remembers: llm-d's default for its approximate prefix index."""

NS_PER_SECOND = 1_000_000_000


class Knowledge(StrEnum):
    """Where a router learns what a worker holds; in a simulation also whether workers report their load."""

    EXACT = "exact"
    """KV events and load as they are, at once."""
    EVENTS = "events"
    """KV events, late, and load from heartbeats, late."""
    HEARTBEAT = "heartbeat"
    """No events: load from heartbeats and, less often, a list of all blocks held, both late."""
    OWN = "own"
    """No news of what the worker holds: only what the router itself sent. In a simulation no load either."""


_WITH_EVENTS = frozenset({Knowledge.EXACT, Knowledge.EVENTS})
_WITH_LISTS = _WITH_EVENTS | {Knowledge.HEARTBEAT}


class _InFlight(NamedTuple):
    worker: int
    prompt_tokens: int
    blocks: int
    prefill_blocks: int


class RouterState:
    """What a router knows of its workers: `num_workers` at first, with one kind of knowledge.

    Each worker has a slot, which is its index in the whole fleet. Others may join and leave; the fleet that policies
    see has all slots, so that whoever lets workers leave narrows it to those that may be chosen.

    Of a worker with knowledge "own" the full blocks of a prompt are taken to be cached where it was sent: the last
    `max_guessed_blocks`, for `max_guess_age_ns` (None: whatever their age). Of no worker more than
    `max_blocks_per_worker` blocks are known (None: no bound).
    """

    def __init__(
        self,
        num_workers: int,
        knowledge: Knowledge,
        max_guessed_blocks: int = GUESSED_BLOCKS_PER_WORKER,
        *,
        max_guess_age_ns: int | None = None,
        max_blocks_per_worker: int | None = None,
    ) -> None:
        self.index = PrefixIndex(0, max_blocks_per_worker)
        bound = max_guessed_blocks if max_blocks_per_worker is None else max_blocks_per_worker
        self._max_guessed_blocks = min(max_guessed_blocks, bound)
        self._max_guess_age_ns = max_guess_age_ns
        self._views: list[WorkerView] = []
        self._keys: list[int] = []
        self._knowledge: list[Knowledge | None] = []
        self._reported_at_ns: list[int | None] = []
        self._guesses: dict[int, GuessedBlocks] = {}
        self._vacant: list[int] = []
        self._in_flight: dict[str, _InFlight] = {}
        for _ in range(num_workers):
            self.add_worker(knowledge)

    def __len__(self) -> int:
        return len(self._views)

    # -- who is in the fleet -------------------------------------------------------------------------------

    def add_worker(self, knowledge: Knowledge, key: int | None = None) -> int:
        """Add a worker of which nothing is known yet, and return its slot: the first one that is vacant.

        `key`, from 0 to 2^64 - 1, stands for the worker in hashes; None: its slot does.
        """
        if self._vacant:
            slot = heapq.heappop(self._vacant)
            self._views[slot] = WorkerView(index=slot)
            self._reported_at_ns[slot] = None
        else:
            slot = self.index.add_worker()
            self._views.append(WorkerView(index=slot))
            self._reported_at_ns.append(None)
            self._keys.append(slot)
            self._knowledge.append(None)
        self._keys[slot] = slot if key is None else key
        self.set_knowledge(slot, knowledge)
        return slot

    def retire_worker(self, slot: int) -> None:
        """Forget a worker, which gets no more requests and has no more news; those in flight there may still end.

        Its slot is vacant once nothing is in flight there.
        """
        assert self._knowledge[slot] is not None
        self._forget_blocks(slot)
        self._knowledge[slot] = None
        self._vacate_if_empty(slot)

    def knowledge_of(self, slot: int) -> Knowledge | None:
        """Return where the router learns what a worker holds; None where the worker has left."""
        return self._knowledge[slot]

    def set_knowledge(self, slot: int, knowledge: Knowledge) -> None:
        """Learn from now on in this way what a worker holds, and forget what was known of that."""
        self._forget_blocks(slot)
        self._knowledge[slot] = knowledge
        if knowledge is Knowledge.OWN:
            self._guesses[slot] = GuessedBlocks(
                self.index, slot, self._max_guessed_blocks, self._max_guess_age_ns
            )

    def _forget_blocks(self, slot: int) -> None:
        self._guesses.pop(slot, None)
        self.index.cleared(slot)

    def _vacate_if_empty(self, slot: int) -> None:
        if self._knowledge[slot] is None and not self._views[slot].in_flight:
            heapq.heappush(self._vacant, slot)

    # -- what policies see ---------------------------------------------------------------------------------

    @property
    def keys(self) -> Sequence[int]:
        """The number that stands for each worker in hashes, by slot."""
        return self._keys

    def views_at(self, now_ns: int) -> Sequence[WorkerView]:
        """Return all workers by slot, the age of their reports as of this time."""
        for slot, (view, reported_at_ns) in enumerate(zip(self._views, self._reported_at_ns, strict=True)):
            view.index = slot
            if reported_at_ns is not None:
                view.age_seconds = (now_ns - reported_at_ns) / NS_PER_SECOND
        return self._views

    def matched_blocks(self, request: RoutingRequest, now_ns: int) -> Sequence[int]:
        """Return for each slot how many blocks from the start of the prompt its worker is known to hold at this time.

        The engine computes at least the last token of a prompt itself, so it can use one block less where
        the match ends with the prompt.
        """
        if self._max_guess_age_ns is not None:
            for guesses in self._guesses.values():
                guesses.forget_old(now_ns)
        return self.index.longest_prefixes(request.block_hashes)

    def fleet_at(self, now_ns: int) -> FleetView:
        """Return what a policy may look at to decide at this time; nothing is computed before it looks."""
        return _FleetAt(self, now_ns)

    # -- what the router does ------------------------------------------------------------------------------

    def dispatched(self, request: RoutingRequest, decision: Decision, now_ns: int) -> None:
        """Note that a request, whose id is none of those in flight, is on its way to the worker in the decision's slot."""
        assert request.request_id not in self._in_flight
        assert self._knowledge[decision.worker] is not None
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
        if entry.worker in self._guesses:
            self._guesses[entry.worker].sent(request.block_hashes, now_ns)

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
        self._vacate_if_empty(worker)

    # -- what workers tell ---------------------------------------------------------------------------------

    def reported(self, worker: int, running: int, waiting: int, kv_usage: float, at_ns: int) -> None:
        """Note the load of a worker as it was at `at_ns`."""
        assert self._knowledge[worker] is not None
        view = self._views[worker]
        view.running = running
        view.waiting = waiting
        view.kv_usage = kv_usage
        self._reported_at_ns[worker] = at_ns

    def stored(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note a KV event: the worker has cached these blocks."""
        assert self._knowledge[worker] in _WITH_EVENTS
        self.index.stored(worker, hashes)

    def removed(self, worker: int, hashes: Iterable[Hashable]) -> None:
        """Note a KV event: the worker has dropped one copy of each of these blocks."""
        assert self._knowledge[worker] in _WITH_EVENTS
        self.index.removed(worker, hashes)

    def cleared(self, worker: int) -> None:
        """Note a KV event: the worker has dropped all blocks."""
        assert self._knowledge[worker] in _WITH_EVENTS
        self.index.cleared(worker)

    def synchronised(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note a worker's list of all blocks that it holds, a hash once for each copy."""
        assert self._knowledge[worker] in _WITH_LISTS
        self.index.replace(worker, hashes)


class _FleetAt:
    """A `FleetView` of a router's state at one time."""

    def __init__(self, state: RouterState, now_ns: int) -> None:
        self._state = state
        self._now_ns = now_ns

    def __len__(self) -> int:
        return len(self._state)

    @property
    def slots(self) -> Sequence[int]:
        """All slots."""
        return range(len(self._state))

    @property
    def keys(self) -> Sequence[int]:
        """The number that stands for each worker."""
        return self._state.keys

    @property
    def workers(self) -> Sequence[WorkerView]:
        """All workers, by index."""
        return self._state.views_at(self._now_ns)

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """Return for each worker how many blocks from the start of the prompt it is known to hold."""
        return self._state.matched_blocks(request, self._now_ns)
