"""RouterState: what a router believes after it was told things."""

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.routing.fleets import request_of

from understudy.routing import Decision, Knowledge, RouterState, RoutingRequest

NUM_WORKERS = 3
NEWS_KINDS = [Knowledge.EXACT, Knowledge.EVENTS, Knowledge.HEARTBEAT]


class BookkeepingMachine(RuleBasedStateMachine):
    """Requests come, get their first token and go; the sums a worker are recomputed from those in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RouterState(NUM_WORKERS, Knowledge.EVENTS)
        self.in_flight: dict[str, tuple[RoutingRequest, Decision]] = {}
        self.before_first_token: set[str] = set()
        self.routed: dict[int, int] = defaultdict(int)

    @rule(worker=st.integers(0, NUM_WORKERS - 1), tokens=st.integers(1, 100), data=st.data())
    def dispatched(self, worker: int, tokens: int, data: st.DataObject) -> None:
        """Send a request."""
        name = f"r{sum(self.routed.values())}"
        request = RoutingRequest(
            request_id=name, num_prompt_tokens=tokens, block_hashes=range(tokens // 16), block_size=16
        )
        decision = Decision(worker, data.draw(st.integers(0, tokens // 16)), "test")
        self.state.dispatched(request, decision)
        self.in_flight[name] = (request, decision)
        self.before_first_token.add(name)
        self.routed[worker] += 1

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
    state.dispatched(request_of(4), Decision(1, 0, "test"))
    assert list(state.matched_blocks(request_of(4))) == [0, 0]
    state.synchronised(0, range(3))
    assert list(state.matched_blocks(request_of(4))) == [3, 0]


@pytest.mark.parametrize("knowledge", [Knowledge.EXACT, Knowledge.EVENTS])
def test_events_change_what_is_matched(knowledge: Knowledge) -> None:
    """Stored, removed and cleared are each seen at the next look."""
    state = RouterState(2, knowledge)
    state.stored(0, range(4))
    state.stored(1, range(2))
    assert list(state.matched_blocks(request_of(4))) == [4, 2]
    state.removed(0, [3])
    state.cleared(1)
    assert list(state.matched_blocks(request_of(4))) == [3, 0]


def test_own_knowledge_guesses_what_it_sent() -> None:
    """A router without news takes the full blocks of a prompt to be cached where it sent it, finished or not."""
    state = RouterState(2, Knowledge.OWN)
    state.dispatched(request_of(4), Decision(1, 0, "test"))
    assert list(state.matched_blocks(request_of(6))) == [0, 4]
    state.finished("r1", 1)
    assert list(state.matched_blocks(request_of(6))) == [0, 4]


@given(limit=st.integers(1, 20), blocks=st.integers(1, 40))
def test_own_guesses_are_bounded(limit: int, blocks: int) -> None:
    """A router without news remembers no more than its bound for each worker."""
    state = RouterState(1, Knowledge.OWN, max_guessed_blocks=limit)
    state.dispatched(request_of(blocks), Decision(0, 0, "test"))
    assert state.index.blocks_held(0) == min(limit, blocks)


def test_own_knowledge_hears_no_news() -> None:
    """Telling a router what its kind cannot hear is a mistake of the fleet's."""
    own, heartbeat = RouterState(1, Knowledge.OWN), RouterState(1, Knowledge.HEARTBEAT)
    with pytest.raises(AssertionError):
        own.reported(0, 1, 1, 0.5, 0)
    with pytest.raises(AssertionError):
        own.synchronised(0, [1])
    with pytest.raises(AssertionError):
        own.stored(0, [1])
    with pytest.raises(AssertionError):
        heartbeat.removed(0, [1])
    with pytest.raises(AssertionError):
        heartbeat.cleared(0)


def test_reports_age() -> None:
    """A view shows the last report and how long ago it was true; infinite before the first."""
    state = RouterState(2, Knowledge.HEARTBEAT)
    state.reported(0, running=3, waiting=2, kv_usage=0.5, at_ns=1_000_000_000)
    known, unknown = state.fleet_at(3_500_000_000).workers
    assert (known.running, known.waiting, known.kv_usage, known.age_seconds) == (3, 2, 0.5, 2.5)
    assert (unknown.running, unknown.waiting, unknown.kv_usage, unknown.age_seconds) == (0, 0, 0.0, math.inf)


def test_fleet_shows_the_state() -> None:
    """A policy sees through the fleet what the router knows."""
    state = RouterState(2, Knowledge.EVENTS)
    state.stored(1, range(3))
    state.dispatched(request_of(4), Decision(1, 3, "test"))
    fleet = state.fleet_at(0)
    assert len(fleet) == 2
    assert [view.in_flight for view in fleet.workers] == [0, 1]
    assert list(fleet.matched_blocks(request_of(4))) == [0, 3]


def test_news_about_the_wrong_worker_is_a_mistake() -> None:
    """A request can only get on and end where it was sent."""
    state = RouterState(2, Knowledge.EVENTS)
    state.dispatched(request_of(4), Decision(1, 0, "test"))
    with pytest.raises(AssertionError):
        state.first_token("r1", 0)
    with pytest.raises(AssertionError):
        state.finished("r1", 0)
