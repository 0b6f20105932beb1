"""RouterState: what a router believes after it was told things."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.routing.fleets import request_of

from understudy.routing import Decision, Knowledge, RouterState, RoutingRequest, narrowed

NUM_WORKERS = 3
NEWS_KINDS = [Knowledge.EXACT, Knowledge.EVENTS, Knowledge.HEARTBEAT]


class BookkeepingMachine(RuleBasedStateMachine):
    """Workers join and leave, requests come, get their first token and go; the sums are recomputed from those in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RouterState(NUM_WORKERS, Knowledge.EVENTS)
        self.in_flight: dict[str, tuple[RoutingRequest, Decision]] = {}
        self.before_first_token: set[str] = set()
        self.routed: dict[int, int] = dict.fromkeys(range(NUM_WORKERS), 0)
        self.members = set(range(NUM_WORKERS))
        self.num_requests = 0

    def _leftovers(self) -> set[int]:
        return {decision.worker for _, decision in self.in_flight.values()} - self.members

    @precondition(lambda self: len(self.members) < 5)
    @rule()
    def joined(self) -> None:
        """Add a worker: it gets the first slot that is nobody's and where nothing is in flight."""
        taken = self.members | self._leftovers()
        slot = self.state.add_worker(Knowledge.EVENTS)
        assert slot == next(number for number in range(10) if number not in taken)
        self.members.add(slot)
        self.routed[slot] = 0

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def left(self, data: st.DataObject) -> None:
        """Retire a worker, whatever is in flight there."""
        slot = data.draw(st.sampled_from(sorted(self.members)))
        self.state.stored(slot, range(5))
        self.state.retire_worker(slot)
        self.members.remove(slot)
        assert self.state.knowledge_of(slot) is None
        assert self.state.index.blocks_held(slot) == 0

    @precondition(lambda self: self.members)
    @rule(tokens=st.integers(1, 100), data=st.data())
    def dispatched(self, tokens: int, data: st.DataObject) -> None:
        """Send a request."""
        worker = data.draw(st.sampled_from(sorted(self.members)))
        name = f"r{self.num_requests}"
        request = RoutingRequest(
            request_id=name, num_prompt_tokens=tokens, block_hashes=range(tokens // 16), block_size=16
        )
        decision = Decision(worker, data.draw(st.integers(0, tokens // 16)), "test")
        self.state.dispatched(request, decision, 0)
        self.in_flight[name] = (request, decision)
        self.before_first_token.add(name)
        self.routed[worker] += 1
        self.num_requests += 1

    @precondition(lambda self: self.before_first_token)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        """Finish computing a prompt."""
        name = data.draw(st.sampled_from(sorted(self.before_first_token)))
        self.before_first_token.remove(name)
        self.state.first_token(name, self.in_flight[name][1].worker)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finished(self, data: st.DataObject) -> None:
        """End a request, before its first token or after."""
        name = data.draw(st.sampled_from(sorted(self.in_flight)))
        self.before_first_token.discard(name)
        _, decision = self.in_flight.pop(name)
        self.state.finished(name, decision.worker)

    @invariant()
    def sums_are_those_of_the_requests_in_flight(self) -> None:
        """No count drifts."""
        for view in self.state.views_at(0):
            mine = [pair for pair in self.in_flight.values() if pair[1].worker == view.index]
            computing = [pair for pair in mine if pair[0].request_id in self.before_first_token]
            assert view.requests_routed == self.routed[view.index]
            assert view.in_flight == len(mine)
            assert view.in_flight_prompt_tokens == sum(request.num_prompt_tokens for request, _ in mine)
            assert view.active_decode_blocks == sum(
                math.ceil(request.num_prompt_tokens / 16) for request, _ in mine
            )
            assert view.active_prefill_blocks == sum(
                math.ceil(request.num_prompt_tokens / 16) - decision.matched_blocks
                for request, decision in computing
            )


BookkeepingMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_bookkeeping_never_drifts = BookkeepingMachine.TestCase


@pytest.mark.parametrize("knowledge", NEWS_KINDS)
def test_routers_with_news_believe_only_the_workers(knowledge: Knowledge) -> None:
    """A router that hears from its workers takes nothing to be cached because it sent it."""
    state = RouterState(2, knowledge)
    state.dispatched(request_of(4), Decision(1, 0, "test"), 0)
    assert list(state.matched_blocks(request_of(4), 0)) == [0, 0]
    state.synchronised(0, range(3))
    assert list(state.matched_blocks(request_of(4), 0)) == [3, 0]


@pytest.mark.parametrize("knowledge", [Knowledge.EXACT, Knowledge.EVENTS])
def test_events_change_what_is_matched(knowledge: Knowledge) -> None:
    """Stored, removed and cleared are each seen at the next look."""
    state = RouterState(2, knowledge)
    state.stored(0, range(4))
    state.stored(1, range(2))
    assert list(state.matched_blocks(request_of(4), 0)) == [4, 2]
    state.removed(0, [3])
    state.cleared(1)
    assert list(state.matched_blocks(request_of(4), 0)) == [3, 0]


def test_own_knowledge_guesses_what_it_sent() -> None:
    """A router without news takes the full blocks of a prompt to be cached where it sent it, finished or not."""
    state = RouterState(2, Knowledge.OWN)
    state.dispatched(request_of(4), Decision(1, 0, "test"), 0)
    assert list(state.matched_blocks(request_of(6), 0)) == [0, 4]
    state.finished("r1", 1)
    assert list(state.matched_blocks(request_of(6), 0)) == [0, 4]


@given(limit=st.integers(1, 20), blocks=st.integers(1, 40))
def test_own_guesses_are_bounded(limit: int, blocks: int) -> None:
    """A router without news remembers no more than its bound for each worker."""
    state = RouterState(1, Knowledge.OWN, max_guessed_blocks=limit)
    state.dispatched(request_of(blocks), Decision(0, 0, "test"), 0)
    assert state.index.blocks_held(0) == min(limit, blocks)


def test_what_a_worker_cannot_say_is_a_mistake() -> None:
    """Telling a router news of blocks that its knowledge of a worker does not have is a mistake of its driver's."""
    own, heartbeat = RouterState(1, Knowledge.OWN), RouterState(1, Knowledge.HEARTBEAT)
    with pytest.raises(AssertionError):
        own.synchronised(0, [1])
    with pytest.raises(AssertionError):
        own.stored(0, [1])
    with pytest.raises(AssertionError):
        heartbeat.removed(0, [1])
    with pytest.raises(AssertionError):
        heartbeat.cleared(0)


def test_nothing_happens_to_a_worker_that_has_left() -> None:
    """Requests, news and reports of a worker that has left are mistakes of the driver's; ends of its requests are not."""
    state = RouterState(1, Knowledge.EVENTS)
    state.dispatched(request_of(4), Decision(0, 0, "test"), 0)
    state.retire_worker(0)
    state.first_token("r1", 0)
    state.finished("r1", 0)
    mistakes: list[Callable[[], None]] = [
        lambda: state.stored(0, [1]),
        lambda: state.synchronised(0, [1]),
        lambda: state.reported(0, 1, 1, 0.5, 0),
        lambda: state.dispatched(request_of(4), Decision(0, 0, "test"), 0),
        lambda: state.retire_worker(0),
    ]
    for mistake in mistakes:
        with pytest.raises(AssertionError):
            mistake()


def test_who_gets_a_slot_again_starts_afresh() -> None:
    """A new worker in an old slot has none of its predecessor's blocks, load, counts or key."""
    state = RouterState(2, Knowledge.OWN)
    state.dispatched(request_of(4), Decision(0, 0, "test"), 0)
    state.reported(0, running=3, waiting=2, kv_usage=0.5, at_ns=0)
    state.finished("r1", 0)
    state.retire_worker(0)
    assert state.add_worker(Knowledge.EVENTS, key=77) == 0
    view = state.fleet_at(10**9).workers[0]
    assert (view.requests_routed, view.running, view.waiting, view.age_seconds) == (0, 0, 0, math.inf)
    assert list(state.matched_blocks(request_of(4), 0)) == [0, 0]
    assert list(state.fleet_at(0).keys) == [77, 1]
    assert list(state.fleet_at(0).slots) == [0, 1]


def test_each_worker_has_its_own_kind_of_knowledge() -> None:
    """Of one worker what was sent counts, of another what it says, and nothing else of either."""
    state = RouterState(0, Knowledge.OWN)
    own, events = state.add_worker(Knowledge.OWN), state.add_worker(Knowledge.EVENTS)
    for worker, name in ((own, "a"), (events, "b")):
        state.dispatched(request_of(4, name=name), Decision(worker, 0, "test"), 0)
    assert list(state.matched_blocks(request_of(6), 0)) == [4, 0]
    state.stored(events, range(3))
    assert list(state.matched_blocks(request_of(6), 0)) == [4, 3]


@pytest.mark.parametrize("before", Knowledge)
@pytest.mark.parametrize("after", Knowledge)
def test_another_kind_of_knowledge_starts_from_nothing(before: Knowledge, after: Knowledge) -> None:
    """What was known of a worker's blocks is forgotten, that of the others is not, and counts go on."""
    state = RouterState(2, before)
    for worker, name in ((0, "a"), (1, "b")):
        if before is not Knowledge.OWN:
            state.synchronised(worker, range(4))
        state.dispatched(request_of(4, name=name), Decision(worker, 0, "test"), 0)
    state.set_knowledge(0, after)
    assert state.knowledge_of(0) is after
    assert list(state.matched_blocks(request_of(4), 0)) == [0, 4]
    state.dispatched(request_of(3, name="c"), Decision(0, 0, "test"), 0)
    guessed = 3 if after is Knowledge.OWN else 0
    assert list(state.matched_blocks(request_of(4), 0)) == [guessed, 4]
    assert [view.in_flight for view in state.views_at(0)] == [2, 1]


def test_guesses_grow_old() -> None:
    """What was sent too long ago is no longer taken to be cached, and what was sent again is."""
    state = RouterState(1, Knowledge.OWN, max_guess_age_ns=100)
    state.dispatched(request_of(4, name="a"), Decision(0, 0, "test"), 0)
    state.dispatched(request_of(2, name="b"), Decision(0, 0, "test"), 60)
    fleets = [state.fleet_at(now_ns) for now_ns in (99, 100, 160)]
    assert [list(fleet.matched_blocks(request_of(4))) for fleet in fleets] == [[4], [2], [0]]


@given(bound=st.integers(1, 20), limit=st.integers(1, 20), blocks=st.integers(1, 40))
def test_one_bound_for_all_kinds_of_knowledge(bound: int, limit: int, blocks: int) -> None:
    """No kind of knowledge keeps more blocks of a worker than may be kept; guesses obey their own bound as well."""
    state = RouterState(3, Knowledge.OWN, limit, max_blocks_per_worker=bound)
    state.set_knowledge(1, Knowledge.EVENTS)
    state.set_knowledge(2, Knowledge.HEARTBEAT)
    state.dispatched(request_of(blocks), Decision(0, 0, "test"), 0)
    state.stored(1, range(blocks))
    state.synchronised(2, range(blocks))
    held = [state.index.blocks_held(worker) for worker in range(3)]
    assert held == [min(bound, limit, blocks), min(bound, blocks), min(bound, blocks)]
    assert state.index.num_beyond_bound == 2 * max(0, blocks - bound)


def test_reports_age() -> None:
    """A view shows the last report and how long ago it was true; infinite before the first."""
    state = RouterState(2, Knowledge.HEARTBEAT)
    state.reported(0, running=3, waiting=2, kv_usage=0.5, at_ns=1_000_000_000)
    known, unknown = state.fleet_at(3_500_000_000).workers
    assert (known.running, known.waiting, known.kv_usage, known.age_seconds) == (3, 2, 0.5, 2.5)
    assert (unknown.running, unknown.waiting, unknown.kv_usage, unknown.age_seconds) == (0, 0, 0.0, math.inf)


def test_an_index_is_of_the_fleet_that_is_looked_at() -> None:
    """A worker has its slot for index again where the whole fleet is looked at after a part of it."""
    state = RouterState(3, Knowledge.EVENTS)
    assert [view.index for view in narrowed(state.fleet_at(0), [1, 2]).workers] == [0, 1]
    assert [view.index for view in state.fleet_at(0).workers] == [0, 1, 2]


def test_fleet_shows_the_state() -> None:
    """A policy sees through the fleet what the router knows."""
    state = RouterState(2, Knowledge.EVENTS)
    state.stored(1, range(3))
    state.dispatched(request_of(4), Decision(1, 3, "test"), 0)
    fleet = state.fleet_at(0)
    assert len(fleet) == 2
    assert [view.in_flight for view in fleet.workers] == [0, 1]
    assert list(fleet.matched_blocks(request_of(4))) == [0, 3]


def test_news_about_the_wrong_worker_is_a_mistake() -> None:
    """A request can only get on and end where it was sent."""
    state = RouterState(2, Knowledge.EVENTS)
    state.dispatched(request_of(4), Decision(1, 0, "test"), 0)
    with pytest.raises(AssertionError):
        state.first_token("r1", 0)
    with pytest.raises(AssertionError):
        state.finished("r1", 0)
