"""Laws of the fleet: who may be chosen, that the choice is the policy's, and that nothing is left of what has ended."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.errors import UsageError
from understudy.gateway.choice import Choice
from understudy.gateway.fleet import Fleet, FleetLimits, Policy
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream import Upstream, WorkerAddress
from understudy.routing import (
    Health,
    Knowledge,
    PolicyMemory,
    RoutingRequest,
    Watched,
    decide,
    known_policies,
    load_policy,
    narrowed,
)

BLOCK_SIZE = 4
MODELS = ("m", "other")
NUM_NAMES = 6
FEW = 2
"""Of so few workers none leaves, or most of the time nobody could get a request."""
LIMITS = FleetLimits(max_in_flight_per_worker=5, max_blocks_per_worker=50, own_record_seconds=60.0)


@dataclass(eq=False)
class Sent:
    """A request in flight."""

    choice: Choice
    watched: Watched | None
    has_begun: bool = False


def _fleet(policy: str = "prefix", limits: FleetLimits = LIMITS, now_ns: Sequence[int] = (0,)) -> Fleet:
    return Fleet(Policy(policy, load_policy(policy)), limits, seed=3, now_ns=lambda: now_ns[0])


def _add(fleet: Fleet, number: int) -> Member:
    name = f"http://127.0.0.1:{9000 + number}"
    return fleet.add(name, Upstream(WorkerAddress.parse(name)))


def _inbound(
    request_id: str, family: int, num_blocks: int, *, model: str | None = None, **choices: Any
) -> Inbound:
    """Return a request whose first blocks are those of its family; of none, it has no prompt."""
    routing = RoutingRequest(
        request_id=request_id,
        num_prompt_tokens=num_blocks * BLOCK_SIZE,
        block_hashes=[100 * family + place for place in range(num_blocks)],
        block_size=BLOCK_SIZE,
        session_id=None if family == 0 else f"s{family}",
    )
    return Inbound(
        method="POST",
        target="/v1/completions",
        headers=(),
        body=b"{}",
        model=model,
        routing=routing,
        has_prompt=num_blocks > 0,
        **choices,
    )


def _healthy(fleet: Fleet, count: int) -> list[Member]:
    members = [_add(fleet, number) for number in range(count)]
    for member in members:
        fleet.probed(member, passed=True)
    return members


class FleetMachine(RuleBasedStateMachine):
    """Workers come and go, and requests end in all ways, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = [0]
        self.num_requests = 0
        self.rooms = 0
        self.sent: list[Sent] = []
        self.fleet = _fleet(now_ns=self.now_ns)

    @initialize(policy=st.sampled_from(known_policies()))
    def start(self, policy: str) -> None:
        """Begin with some workers that are well."""
        self.fleet = _fleet(policy, now_ns=self.now_ns)
        self.fleet.on_room = self._room
        _healthy(self.fleet, FEW + 1)

    def _room(self) -> None:
        self.rooms += 1

    def _member(self, data: st.DataObject) -> Member:
        return data.draw(st.sampled_from(list(self.fleet)), label="member")

    # -- who is in the fleet -------------------------------------------------------------------------------

    @rule(number=st.integers(0, NUM_NAMES - 1), is_well=st.sampled_from([True, True, False]))
    def add(self, number: int, *, is_well: bool) -> None:
        """Let a worker join, in a slot in which nothing of another one is left; a name is taken only once."""
        if f"http://127.0.0.1:{9000 + number}" in self.fleet:
            with pytest.raises(UsageError):
                _add(self.fleet, number)
            return
        member = _add(self.fleet, number)
        assert all(sent.choice.member.slot != member.slot for sent in self.sent)
        assert self.fleet.in_flight(member) == 0
        assert self.fleet.health_of(member) is Health.STARTING
        if is_well:
            self.fleet.probed(member, passed=True)

    @precondition(lambda self: len(self.fleet) > FEW)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        """Drain a worker, which leaves once it has nothing to do."""
        member = self._member(data)
        is_idle = self.fleet.in_flight(member) == 0
        self.fleet.drain(member)
        assert (member.name in self.fleet) is not is_idle

    @precondition(lambda self: len(self.fleet) > 0)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        """Let a worker that drains stay after all."""
        self.fleet.keep(self._member(data))

    @precondition(lambda self: len(self.fleet) > FEW)
    @rule(data=st.data(), twice=st.booleans())
    def remove(self, data: st.DataObject, *, twice: bool) -> None:
        """Let a worker leave at once; its requests end later."""
        member = self._member(data)
        self.fleet.remove(member)
        if twice:
            self.fleet.remove(member)
        assert member.name not in self.fleet

    # -- what is heard of them -----------------------------------------------------------------------------

    @precondition(lambda self: len(self.fleet) > 0)
    @rule(data=st.data(), passed=st.booleans())
    def probe(self, data: st.DataObject, *, passed: bool) -> None:
        """Hear from a worker whether it is well."""
        self.fleet.probed(self._member(data), passed=passed)

    @precondition(lambda self: len(self.fleet) > 0)
    @rule(data=st.data(), models=st.sets(st.sampled_from(MODELS)))
    def serve(self, data: st.DataObject, models: Collection[str]) -> None:
        """Hear from a worker what it serves."""
        self.fleet.serves(self._member(data), dict.fromkeys(models))

    @precondition(lambda self: len(self.fleet) > 0)
    @rule(data=st.data(), family=st.integers(0, 3), num_blocks=st.integers(0, 5))
    def hear_events(self, data: st.DataObject, family: int, num_blocks: int) -> None:
        """Hear from a worker's events what it holds."""
        slot = self._member(data).slot
        self.fleet.state.set_knowledge(slot, Knowledge.EVENTS)
        self.fleet.state.stored(slot, [100 * family + place for place in range(num_blocks)])

    @rule(seconds=st.sampled_from([0.001, 0.3, 1.0, 31.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass, so that ejections and the router's own record come to an end."""
        self.now_ns[0] += round(seconds * 1e9)

    @rule(most=st.sampled_from([1, 2, 8]))
    def limit(self, most: int) -> None:
        """Change how much a worker may have."""
        self.fleet.limits = replace(self.fleet.limits, max_in_flight_per_worker=most)

    # -- requests ------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        family=st.integers(0, 3),
        num_blocks=st.integers(0, 5),
        model=st.sampled_from([None, *MODELS, "unknown"]),
        wants_stream=st.booleans(),
        count=st.integers(1, 4),
    )
    def send(
        self,
        data: st.DataObject,
        family: int,
        num_blocks: int,
        model: str | None,
        *,
        wants_stream: bool,
        count: int,
    ) -> None:
        """Send some requests of a kind, the last one as if others had been tried in vain."""
        members = st.sampled_from(list(self.fleet)) if len(self.fleet) > 0 else st.nothing()
        tried = data.draw(st.lists(members, max_size=2), label="tried")
        for number in range(count):
            self.num_requests += 1
            inbound = _inbound(
                str(self.num_requests), family, num_blocks, model=model, wants_stream=wants_stream
            )
            self._send(inbound, tried if number == count - 1 else [])

    def _send(self, inbound: Inbound, tried: Collection[Member]) -> None:
        """Choose as the policy does among those who may get a request; nobody only if nobody may."""
        fleet = self.fleet
        slots = self._may_get(inbound, tried)
        expected = self._decision(inbound, slots) if slots else None
        choice = fleet.choose(inbound, tried)
        if choice is None:
            assert expected is None
            return
        assert expected == (choice.member.slot, choice.decision.matched_blocks, choice.decision.reason)
        assert fleet[choice.member.name] is choice.member
        before = fleet.in_flight(choice.member)
        watched = fleet.dispatched(choice, wants_stream=inbound.wants_stream)
        assert fleet.in_flight(choice.member) == before + 1
        assert (watched is not None) is (inbound.wants_stream and inbound.has_prompt)
        self.sent.append(Sent(choice, watched))

    def _may_get(self, inbound: Inbound, tried: Collection[Member]) -> list[int]:
        """Return the slots of those who may get a request, found the long way."""
        fleet = self.fleet
        usable = fleet.health.usable(self.now_ns[0])
        is_known = any(inbound.model in member.models for member in fleet)
        slots = [
            member.slot
            for member in fleet
            if member.slot in usable
            and not member.is_draining
            and member not in tried
            and fleet.in_flight(member) < fleet.limits.max_in_flight_per_worker
            and (not is_known or not member.models or inbound.model in member.models)
        ]
        slots.sort()
        return (
            list(deepcopy(fleet.slow_workers).spared(slots, self.now_ns[0])) if inbound.has_prompt else slots
        )

    def _decision(self, inbound: Inbound, slots: Sequence[int]) -> tuple[int, int, str]:
        fleet = self.fleet
        name, memory = (
            (fleet.policy.name, fleet.memory) if inbound.has_prompt else ("least-loaded", fleet._load_memory)
        )
        view = narrowed(fleet.state.fleet_at(self.now_ns[0]), slots)
        copied = PolicyMemory(deepcopy(memory.rng), memory.decisions, memory.turn, deepcopy(memory.notes))
        decision = decide(load_policy(name), name, inbound.routing, view, copied)
        return slots[decision.worker], decision.matched_blocks, decision.reason

    @precondition(lambda self: any(not sent.has_begun for sent in self.sent))
    @rule(data=st.data(), num_tokens=st.integers(0, 3))
    def begin(self, data: st.DataObject, num_tokens: int) -> None:
        """Begin an answer, and go on for some tokens."""
        sent = data.draw(st.sampled_from([sent for sent in self.sent if not sent.has_begun]), label="sent")
        sent.has_begun = True
        self.fleet.first_token(sent.choice)
        if sent.watched is not None:
            assert sent.watched in sent.watched._worker._streaming
            sent.watched.tokens += num_tokens

    @precondition(lambda self: len(self.sent) > 0)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        """End a request, in whatever way; others hear that there may be room."""
        sent = data.draw(st.sampled_from(self.sent), label="sent")
        self._end(sent, outcome)

    def _end(self, sent: Sent, outcome: Outcome) -> None:
        member, rooms = sent.choice.member, self.rooms
        was_there = any(each is member for each in self.fleet)
        self.sent.remove(sent)
        self.fleet.finished(sent.choice, outcome)
        is_last = all(other.choice.member is not member for other in self.sent)
        is_there = any(each is member for each in self.fleet)
        assert is_there is (was_there and not (member.is_draining and is_last))
        assert self.rooms >= rooms + was_there

    # -- at all times --------------------------------------------------------------------------------------

    @invariant()
    def counts_are_true(self) -> None:
        """Find in all books in flight what was sent and has not ended."""
        views = self.fleet.state.views_at(self.now_ns[0])
        for member in self.fleet:
            own = [sent.choice for sent in self.sent if sent.choice.member is member]
            view = views[member.slot]
            assert self.fleet.in_flight(member) == len(own) == view.in_flight
            assert view.in_flight_prompt_tokens == sum(one.request.num_prompt_tokens for one in own)
            assert view.active_decode_blocks == sum(one.request.num_blocks for one in own)
        assert sum(view.in_flight for view in views) == len(self.sent)
        prefill_blocks = sum(
            sent.choice.request.num_blocks - sent.choice.decision.matched_blocks
            for sent in self.sent
            if not sent.has_begun
        )
        assert sum(view.active_prefill_blocks for view in views) == prefill_blocks

    @invariant()
    def room_is_told_truly(self) -> None:
        """There is room if some worker may get one more request, or there is none to wait for."""
        fleet = self.fleet
        members, _ = fleet.view(None)
        most = fleet.limits.max_in_flight_per_worker
        assert fleet.is_ready is bool(members)
        assert fleet.has_room(None) is (
            not members or any(fleet.in_flight(member) < most for member in members)
        )

    @invariant()
    def members_have_slots_of_their_own(self) -> None:
        """No two share one, and no more slots are made than workers and left requests need."""
        slots = [member.slot for member in self.fleet]
        assert len(set(slots)) == len(slots)
        assert len(self.fleet.state) <= NUM_NAMES + self.num_requests

    def teardown(self) -> None:
        """All requests end, and the fleet is as if there had been none."""
        for sent in list(self.sent):
            self._end(sent, Outcome.COMPLETE)
        fleet = self.fleet
        assert not fleet._watched
        assert not fleet.state._in_flight
        assert not any(fleet._in_flight.values())
        assert not fleet._full
        assert not any(member.is_draining for member in fleet)
        for view in fleet.state.views_at(self.now_ns[0]):
            assert view.in_flight == view.in_flight_prompt_tokens == 0
            assert view.active_prefill_blocks == view.active_decode_blocks == 0
        for worker in fleet.slow_workers._workers.values():
            assert not worker.speed._waiting
            assert not worker.speed._streaming
        num_slots = len(fleet.state)
        for member in list(fleet):
            fleet.remove(member)
        assert not fleet.slow_workers._workers
        assert sorted(_add(fleet, number).slot for number in range(num_slots)) == list(range(num_slots))


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=120, stateful_step_count=100)


def test_a_worker_that_was_given_up_by_its_requests_is_not_chosen() -> None:
    """One that refuses connections gets nothing while others are left, and a probe that passes brings it back."""
    fleet = _fleet("round-robin")
    first, second = _healthy(fleet, 2)
    choice = fleet.choose(_inbound("a", 1, 2), [second])
    assert choice is not None
    fleet.dispatched(choice, wants_stream=True)
    fleet.finished(choice, Outcome.CONNECT_FAILED)
    assert fleet.health_of(first) is Health.UNREACHABLE
    chosen = [fleet.choose(_inbound(str(number), 1, 2), []) for number in range(4)]
    assert [choice.member for choice in chosen if choice is not None] == [second] * 4
    fleet.probed(first, passed=True)
    back = [fleet.choose(_inbound(str(number), 1, 2), []) for number in range(2)]
    assert {choice.member for choice in back if choice is not None} == {first, second}


def test_a_request_goes_to_those_who_serve_its_model() -> None:
    """As soon as it is known who does; while of a worker nothing is known, or of the model, anybody may get it."""
    fleet = _fleet("round-robin")
    first, second = _healthy(fleet, 2)

    def chosen(model: str | None) -> set[Member]:
        choices = [fleet.choose(_inbound(str(number), 1, 2, model=model), []) for number in range(4)]
        return {choice.member for choice in choices if choice is not None}

    assert chosen("m") == {first, second}
    fleet.serves(first, {"m": None})
    assert chosen("m") == {first, second}
    fleet.serves(second, {"other": None})
    assert chosen("m") == {first}
    assert chosen("other") == {second}
    assert chosen("unknown") == chosen(None) == {first, second}
    fleet.serves(second, {"other": None, "m": None})
    assert chosen("m") == {first, second}
    fleet.drain(second)
    assert chosen("other") == {first}


def test_a_limit_that_changes_counts_at_once() -> None:
    """Lower, also for a worker that has more already, until it has less; higher, and whoever waits is told."""
    fleet = _fleet("round-robin")
    (member,) = _healthy(fleet, 1)
    choices = [fleet.choose(_inbound(str(number), 1, 2), []) for number in range(2)]
    for choice in choices:
        assert choice is not None
        fleet.dispatched(choice, wants_stream=False)
    fleet.limits = replace(LIMITS, max_in_flight_per_worker=1)
    assert not fleet.has_room(None)
    for choice in choices:
        assert fleet.choose(_inbound("c", 1, 2), []) is None
        assert choice is not None
        fleet.finished(choice, Outcome.COMPLETE)
    assert fleet.has_room(None)
    last = fleet.choose(_inbound("d", 1, 2), [])
    assert last is not None
    fleet.dispatched(last, wants_stream=False)
    told: list[bool] = []
    fleet.on_room = lambda: told.append(fleet.has_room(None))
    fleet.limits = LIMITS
    assert told == [True]
    assert fleet.in_flight(member) == 1


def test_more_than_the_most_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence that tells the bound."""
    monkeypatch.setattr("understudy.gateway.fleet.MAX_MEMBERS", 2)
    fleet = _fleet()
    _healthy(fleet, 2)
    with pytest.raises(UsageError, match="2 workers, not more"):
        _add(fleet, 2)


def test_a_name_that_nobody_has_is_told_with_those_known() -> None:
    """Whoever asks for a worker learns which there are."""
    fleet = _fleet()
    _healthy(fleet, 1)
    with pytest.raises(UsageError, match=r"no worker is called 'x'; known are http://127\.0\.0\.1:9000"):
        fleet["x"]
