"""A narrowed fleet: the same workers, fewer of them, and policies that do not notice."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.routing.fleets import (
    PROMPT_BLOCKS,
    FixedFleet,
    SizeOnlyFleet,
    fleet_with,
    fleets,
    fresh_memory,
    request_of,
)

from understudy.routing import Decision, decide, known_policies, load_policy, narrowed, worker_key


def chosen_from(fleet: FixedFleet, data: st.DataObject) -> list[int]:
    """Draw some workers of a fleet, at least one, in ascending order."""
    workers = range(len(fleet))
    return sorted(data.draw(st.sets(st.sampled_from(workers), min_size=1, max_size=len(fleet))))


@given(fleet=fleets, data=st.data())
def test_only_the_chosen_are_seen_as_they_are(fleet: FixedFleet, data: st.DataObject) -> None:
    """Views, matches, slots and keys are those of the chosen workers, and indexes are dense."""
    chosen = chosen_from(fleet, data)
    views, matched = list(fleet.workers), fleet.matched_blocks(request_of())
    part = narrowed(fleet, chosen)
    assert len(part) == len(chosen)
    assert all(one is views[worker] for one, worker in zip(part.workers, chosen, strict=True))
    assert [view.index for view in part.workers] == list(range(len(chosen)))
    assert list(part.matched_blocks(request_of())) == [matched[worker] for worker in chosen]
    assert list(part.slots) == list(part.keys) == chosen
    assert [view.index for view in fleet.workers] == list(range(len(fleet)))


@given(fleet=fleets, data=st.data())
def test_narrowing_twice_is_narrowing_once(fleet: FixedFleet, data: st.DataObject) -> None:
    """A part of a part has the slots of the whole fleet."""
    chosen = chosen_from(fleet, data)
    part = narrowed(fleet, chosen)
    last = len(part) - 1
    assert list(narrowed(part, [last]).slots) == [chosen[-1]]


def test_nobody_left_out_costs_nothing() -> None:
    """The fleet of all workers is the fleet."""
    fleet = fleet_with([1, 2])
    assert narrowed(fleet, [0, 1]) is fleet


def test_a_fleet_needs_a_worker_and_an_order() -> None:
    """Nobody at all, or workers out of order, is a mistake of the caller's."""
    for workers in ([], [1, 0], [1, 1]):
        with pytest.raises(AssertionError):
            narrowed(fleet_with([0, 0, 0]), workers)


def test_nothing_is_computed_before_a_policy_looks() -> None:
    """A policy that needs only who is there looks at nothing through a narrowed fleet either."""
    part = narrowed(SizeOnlyFleet(4), [1, 3])
    for name in ("round-robin", "random", "session"):
        decide(load_policy(name), name, request_of(session_id="s"), part, fresh_memory())


@pytest.mark.parametrize("name", known_policies())
@settings(max_examples=30)
@given(fleet=fleets, seed=st.integers(0, 3), data=st.data())
def test_a_policy_decides_as_if_nobody_else_were_there(
    name: str, fleet: FixedFleet, seed: int, data: st.DataObject
) -> None:
    """Through a narrowed fleet a policy chooses the worker that it would choose in a fleet of these alone."""
    chosen = chosen_from(fleet, data)
    matched = fleet.matched_blocks(request_of())
    alone = FixedFleet(
        [fleet.workers[worker] for worker in chosen], [matched[worker] for worker in chosen], keys=chosen
    )
    request, choose = request_of(PROMPT_BLOCKS, session_id="s"), load_policy(name)
    expected = decide(choose, name, request, alone, fresh_memory(seed))
    assert decide(choose, name, request, narrowed(fleet, chosen), fresh_memory(seed)) == expected


@pytest.mark.parametrize("name", ["round-robin", "least-loaded", "prefix", "dynamo-kv"])
@settings(max_examples=50)
@given(
    others=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=60),
    favourite=st.integers(0, 5),
)
def test_turns_are_fair_whoever_is_left_out(name: str, others: list[set[int]], favourite: int) -> None:
    """Between two turns of a worker that may always be chosen nobody else has two, if all tie."""
    memory, choose, fleet = fresh_memory(), load_policy(name), fleet_with([0] * 6)
    since: Counter[int] = Counter()
    for some in others:
        candidates = sorted(some | {favourite})
        decision = decide(choose, name, request_of(), narrowed(fleet, candidates), memory)
        winner = candidates[decision.worker]
        since[winner] += 1
        assert since[winner] == 1
        if winner == favourite:
            since.clear()


@given(sessions=st.sets(st.text(max_size=8), max_size=40), left_out=st.integers(0, 4))
def test_only_the_sessions_of_those_left_out_move(sessions: set[str], left_out: int) -> None:
    """A worker that is left out for a while moves its own sessions; whoever it joins again gets them back."""
    keys = [worker_key(f"http://10.0.0.{number}:8000") for number in range(5)]
    views = fleet_with([0] * 5).workers
    fleet = FixedFleet(views, [0] * 5, keys=keys)
    candidates = [worker for worker in range(5) if worker != left_out]
    choose = load_policy("session")

    def place(session: str, workers: list[int]) -> int:
        request = request_of(session_id=session)
        decision = choose(request, narrowed(fleet, workers), fresh_memory())
        assert isinstance(decision, Decision)
        return workers[decision.worker]

    for session in sessions:
        home = place(session, list(range(5)))
        if home != left_out:
            assert place(session, candidates) == home


@given(order=st.permutations(range(5)), session=st.text(max_size=8))
def test_a_session_stays_when_workers_come_in_another_order(order: list[int], session: str) -> None:
    """With keys of names a session's worker does not depend on which slot it got."""
    names = [f"http://10.0.0.{number}:8000" for number in range(5)]
    choose, request = load_policy("session"), request_of(session_id=session)

    def place(ordered: list[str]) -> str:
        views = fleet_with([0] * 5).workers
        fleet = FixedFleet(views, [0] * 5, keys=[worker_key(name) for name in ordered])
        decision = choose(request, fleet, fresh_memory())
        assert isinstance(decision, Decision)
        return ordered[decision.worker]

    assert place([names[number] for number in order]) == place(names)


def test_a_key_is_the_same_everywhere() -> None:
    """The key of a name never changes, or sessions would move with an update; it fills 64 bits."""
    assert worker_key("http://127.0.0.1:8000") == 8406307410116311547
    assert all(0 <= worker_key(str(random.Random(seed).random())) < 2**64 for seed in range(100))
