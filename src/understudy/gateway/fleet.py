"""The workers behind a router: who they are, what is known of them, and which of them gets a request.

Decisions are those of `understudy.routing`, by the very objects that the simulator uses. Nothing here waits or reads.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic_ns
from typing import NamedTuple

from understudy.engine import LoRA
from understudy.errors import UsageError
from understudy.gateway.choice import Choice
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.gateway.metrics import WorkerFigures
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream import Upstream
from understudy.routing import (
    Choose,
    Failure,
    FleetHealth,
    FleetView,
    Health,
    Knowledge,
    PolicyMemory,
    RouterState,
    SlowWorkers,
    Watched,
    decide,
    load_policy,
    narrowed,
    worker_key,
)

MAX_MEMBERS = 4096

_FAILURES: Mapping[Outcome, Failure] = {
    Outcome.CONNECT_FAILED: Failure.NO_CONNECTION,
    Outcome.UNANSWERED: Failure.ERROR,
    Outcome.BROKEN: Failure.ERROR,
    Outcome.SERVER_ERROR: Failure.ERROR,
}
"""Who refuses for want of room is neither well nor ill, and of a request that its client gave up nothing is known."""


class Policy(NamedTuple):
    """A policy and the name by which users know it."""

    name: str
    choose: Choose


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLimits:
    """How much of a worker is used, and how much is remembered of it; see `RouteSettings` of the same names."""

    max_in_flight_per_worker: int
    max_blocks_per_worker: int
    own_record_seconds: float


class Fleet:
    """All workers. `on_room` is called whenever a request may find room that had none."""

    def __init__(
        self, policy: Policy, limits: FleetLimits, *, seed: int = 0, now_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self.policy = policy
        self._limits = limits
        self.on_room: Callable[[], None] = lambda: None
        self.health = FleetHealth()
        self.slow_workers = SlowWorkers()
        self.state = RouterState(
            0,
            Knowledge.OWN,
            limits.max_blocks_per_worker,
            max_guess_age_ns=round(limits.own_record_seconds * 1e9),
            max_blocks_per_worker=limits.max_blocks_per_worker,
        )
        self._now_ns = now_ns
        self._seed = seed
        self.memory = PolicyMemory(Random(seed))
        self._load_memory = PolicyMemory(Random(seed))
        self._members: dict[int, Member] = {}
        self._in_flight: dict[int, int] = {}
        self._watched: dict[str, Watched] = {}
        self._full: set[int] = set()
        # Who may get requests for each model, as of `_usable`; both are remade when anything about the fleet changes.
        self._usable: tuple[int, ...] = ()
        self._serving: dict[str | None, tuple[int, ...]] = {}
        self._changed()

    @property
    def limits(self) -> FleetLimits:
        """How much of a worker is used. What is remembered of it is as it was at the start."""
        return self._limits

    @limits.setter
    def limits(self, limits: FleetLimits) -> None:
        self._limits = limits
        for slot in self._members:
            self._count_if_full(slot)
        self.on_room()

    def _count_if_full(self, slot: int) -> None:
        if self._in_flight[slot] >= self._limits.max_in_flight_per_worker:
            self._full.add(slot)
        else:
            self._full.discard(slot)

    def use(self, policy: Policy) -> None:
        """Decide by another policy from now on, which remembers nothing yet."""
        self.policy = policy
        self.memory = PolicyMemory(Random(self._seed))

    # -- who is in the fleet -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(sorted(self._members.values(), key=lambda member: member.name))

    def __getitem__(self, name: str) -> Member:
        """Return the worker of this name; raises UsageError where there is none."""
        for member in self._members.values():
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self) or "none"
        raise UsageError(f"no worker is called {name!r}; known are {known}")

    def __contains__(self, name: object) -> bool:
        return any(member.name == name for member in self._members.values())

    def add(self, name: str, upstream: Upstream) -> Member:
        """Let a worker join; it gets requests once it was found healthy. Raises UsageError for a name that is taken, or one too many."""
        if name in self:
            raise UsageError(f"the worker {name} is in the fleet already")
        if len(self._members) >= MAX_MEMBERS:
            raise UsageError(f"a router can have {MAX_MEMBERS} workers, not more")
        slot = self.state.add_worker(Knowledge.OWN, worker_key(name))
        member = self._members[slot] = Member(name, slot, upstream)
        self._in_flight.setdefault(slot, 0)
        self.health.add(slot)
        self.slow_workers.add(slot)
        self._changed()
        return member

    def drain(self, member: Member) -> None:
        """Give a worker no more requests; it leaves when those that it has are done."""
        member.is_draining = True
        self._changed()
        self._leave_if_done(member)
        self.on_room()

    def keep(self, member: Member) -> None:
        """Let a worker that drains stay."""
        member.is_draining = False
        self._changed()
        self.on_room()

    def remove(self, member: Member) -> None:
        """Let a worker leave at once: its requests are broken off."""
        if self._members.get(member.slot) is not member:
            return
        member.on_left()
        del self._members[member.slot]
        self._full.discard(member.slot)
        self.health.remove(member.slot)
        self.slow_workers.remove(member.slot)
        self.state.retire_worker(member.slot)
        self._changed()
        member.upstream.abort()
        self.on_room()

    def _leave_if_done(self, member: Member) -> None:
        if member.is_draining and not self.in_flight(member):
            self.remove(member)

    def in_flight(self, member: Member) -> int:
        """Return how many requests a worker has from this router."""
        return self._in_flight[member.slot]

    def health_of(self, member: Member) -> Health:
        """Return what is thought of a worker."""
        return self.health.state(member.slot, self._now_ns())

    def is_slow(self, member: Member) -> bool:
        """Return whether a worker is found to be much slower than the others."""
        return member.slot in self.slow_workers.slow(self._now_ns())

    def figures(self) -> Sequence[WorkerFigures]:
        """Return what is known of each worker at this moment, in the order of iteration."""
        views = self.state.views_at(self._now_ns())
        return [
            WorkerFigures(
                name=member.name,
                health=str(self.health_of(member)),
                in_flight=self.in_flight(member),
                blocks_known=self.state.index.blocks_held(member.slot),
                running=views[member.slot].running,
                waiting=views[member.slot].waiting,
                kv_usage=views[member.slot].kv_usage,
                report_age_seconds=views[member.slot].age_seconds,
            )
            for member in self
        ]

    # -- who gets a request --------------------------------------------------------------------------------

    def has_room(self, model: str | None) -> bool:
        """Return whether some worker may get one more request for a model, or there is none to wait for."""
        serving = self._who_serve(model)
        return not serving or not self._full or any(slot not in self._full for slot in serving)

    @property
    def is_ready(self) -> bool:
        """Whether some worker may get requests."""
        return bool(self._who_serve(None))

    @property
    def is_uniform(self) -> bool:
        """Whether all workers serve the same models, as far as is known."""
        return len({frozenset(member.models) for member in self._members.values()}) <= 1

    def choose(self, inbound: Inbound, tried: Collection[Member]) -> Choice | None:
        """Return who gets a request, None if nobody may; raises PolicyError where a user's policy fails."""
        slots: Sequence[int] = self._who_serve(inbound.model)
        if tried or self._full:
            left_out = self._full.union(member.slot for member in tried)
            slots = [slot for slot in slots if slot not in left_out]
        if not slots:
            return None
        now_ns = self._now_ns()
        if inbound.has_prompt:
            slots = self.slow_workers.spared(slots, now_ns)
        fleet = narrowed(self.state.fleet_at(now_ns), slots)
        policy, memory = (self.policy, self.memory) if inbound.has_prompt else (_BY_LOAD, self._load_memory)
        decision = decide(policy.choose, policy.name, inbound.routing, fleet, memory)
        slot = slots[decision.worker]
        return Choice(self._members[slot], decision._replace(worker=slot), inbound.routing)

    def view(self, model: str | None) -> tuple[Sequence[Member], FleetView | None]:
        """Return who may get requests for a model, and the fleet that a policy would see if there is anybody."""
        slots = self._who_serve(model)
        members = [self._members[slot] for slot in slots]
        return members, narrowed(self.state.fleet_at(self._now_ns()), slots) if slots else None

    def dispatched(self, choice: Choice, *, wants_stream: bool) -> Watched | None:
        """Count a request as in flight; returns what measures its answer, if that comes token by token."""
        now_ns, request, slot = self._now_ns(), choice.request, choice.member.slot
        watched = self._watch(choice, now_ns) if wants_stream and request.num_prompt_tokens else None
        self.state.dispatched(request, choice.decision, now_ns)
        self._in_flight[slot] += 1
        self._count_if_full(slot)
        return watched

    def _watch(self, choice: Choice, now_ns: int) -> Watched:
        request, slot = choice.request, choice.member.slot
        # A policy that does not look at caches expects nothing of them, though there may be much.
        blocks = choice.decision.matched_blocks or self.state.matched_blocks(request, now_ns)[slot]
        uncached_tokens = max(request.num_prompt_tokens - blocks * request.block_size, 1)
        watched = self.slow_workers.watch(slot, request.num_prompt_tokens, uncached_tokens, now_ns)
        self._watched[request.request_id] = watched
        return watched

    def first_token(self, choice: Choice) -> None:
        """Note that the answer has begun."""
        request_id = choice.request.request_id
        self.state.first_token(request_id, choice.member.slot)
        if (watched := self._watched.get(request_id)) is not None:
            watched.began(self._now_ns())

    def finished(self, choice: Choice, outcome: Outcome) -> None:
        """Note how a request that was dispatched ended."""
        member, slot = choice.member, choice.member.slot
        request_id = choice.request.request_id
        self.state.finished(request_id, slot)
        if (watched := self._watched.pop(request_id, None)) is not None:
            watched.ended(self._now_ns())
        self._in_flight[slot] -= 1
        if self._members.get(slot) is not member:
            return
        self._count_if_full(slot)
        self._judge(slot, outcome)
        self._leave_if_done(member)
        self.on_room()

    def _judge(self, slot: int, outcome: Outcome) -> None:
        if outcome is Outcome.COMPLETE:
            self.health.succeeded(slot)
        elif (failure := _FAILURES.get(outcome)) is not None:
            self.health.failed(slot, failure, self._now_ns())
            if outcome is Outcome.CONNECT_FAILED and self.state.knowledge_of(slot) is Knowledge.OWN:
                # Whoever comes back there has a cold cache.
                self.state.set_knowledge(slot, Knowledge.OWN)

    # -- what is heard of workers --------------------------------------------------------------------------

    def probed(self, member: Member, *, passed: bool) -> None:
        """Note whether a worker said that it is well."""
        self.health.probed(member.slot, self._now_ns(), passed=passed)
        if passed:
            self.on_room()

    def serves(self, member: Member, models: Mapping[str, LoRA | None]) -> None:
        """Note the models and adapters that a worker serves, by name; a base model has no adapter."""
        if member.models != models:
            member.models = models
            self._changed()

    @property
    def adapters(self) -> Mapping[str, LoRA]:
        """All adapters that some worker serves, by name."""
        return self._adapters

    def _changed(self) -> None:
        self._serving.clear()
        self._adapters = {
            name: adapter
            for member in self._members.values()
            for name, adapter in member.models.items()
            if adapter is not None
        }
        self._known_models = {name for member in self._members.values() for name in member.models}

    def _who_serve(self, model: str | None) -> tuple[int, ...]:
        """Return the slots of those that may get requests for a model: all, where none is known to serve it."""
        usable = self.health.usable(self._now_ns())
        if usable is not self._usable:
            self._usable = usable
            self._serving.clear()
        key = model if model in self._known_models else None
        slots = self._serving.get(key)
        if slots is None:
            slots = self._serving[key] = tuple(slot for slot in usable if self._may_serve(slot, key))
        return slots

    def _may_serve(self, slot: int, model: str | None) -> bool:
        member = self._members[slot]
        return not member.is_draining and (model is None or not member.models or model in member.models)


_BY_LOAD = Policy("least-loaded", load_policy("least-loaded"))
"""For requests without a prompt."""
