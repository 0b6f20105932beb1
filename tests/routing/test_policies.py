"""Each policy against an independent restatement of its formula, and the promises that all of them keep."""

import random
from collections import Counter
from fractions import Fraction

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

from understudy.errors import UsageError
from understudy.routing import Decision, RoutingRequest, WorkerView, decide, known_policies, load_policy

turns = st.integers(0, 8)


def run(
    name: str, fleet: FixedFleet | SizeOnlyFleet, *, request: RoutingRequest | None = None, turn: int = 0
) -> Decision:
    """Return the named policy's decision at the start of a run, for a prompt of PROMPT_BLOCKS unless said."""
    return decide(
        load_policy(name), name, request or request_of(PROMPT_BLOCKS), fleet, fresh_memory(turn=turn)
    )


@pytest.mark.parametrize("name", known_policies())
@settings(max_examples=30)
@given(fleet=fleets, seed=st.integers(0, 3), session=st.none() | st.text(max_size=5))
def test_same_question_same_answer(name: str, fleet: FixedFleet, seed: int, session: str | None) -> None:
    """Twice the same run of decisions from the same seed is the same, decision for decision."""
    request = request_of(PROMPT_BLOCKS, session_id=session)
    first, second = fresh_memory(seed), fresh_memory(seed)
    choose = load_policy(name)
    one = [decide(choose, name, request, fleet, first) for _ in range(10)]
    other = [decide(choose, name, request, fleet, second) for _ in range(10)]
    assert one == other
    assert all(0 <= decision.worker < len(fleet) for decision in one)


@pytest.mark.parametrize("name", known_policies())
@settings(max_examples=30)
@given(fleet=fleets)
def test_beliefs_are_the_fleets(name: str, fleet: FixedFleet) -> None:
    """A policy that looked at the matches reports the chosen worker's; one that did not reports none."""
    decision = run(name, fleet)
    held = fleet.matched_blocks(request_of())[decision.worker]
    assert decision.matched_blocks == (held if fleet.looks_at_matches > 1 else 0)


@pytest.mark.parametrize(
    "name", ["prefix", "round-robin", "least-loaded", "session", "sglang-cache-aware", "dynamo-kv"]
)
@settings(max_examples=30)
@given(fleet=fleets)
def test_policies_that_need_no_chance_draw_none(name: str, fleet: FixedFleet) -> None:
    """A deterministic policy answers the same whatever the seed."""
    choose = load_policy(name)
    request = request_of(PROMPT_BLOCKS, session_id="s")
    assert choose(request, fleet, fresh_memory(1)) == choose(request, fleet, fresh_memory(2))


@pytest.mark.parametrize("name", ["round-robin", "random"])
def test_blind_policies_look_at_nothing(name: str) -> None:
    """Neither workers nor matches are computed for a policy that needs only the number of workers."""
    assert 0 <= run(name, SizeOnlyFleet(4)).worker < 4


@pytest.mark.parametrize("name", ["least-loaded", "power-of-two"])
@settings(max_examples=30)
@given(fleet=fleets)
def test_load_policies_do_not_look_at_matches(name: str, fleet: FixedFleet) -> None:
    """A policy of load alone causes no prefix to be looked up."""
    run(name, fleet)
    assert fleet.looks_at_matches == 0


def test_a_session_looks_at_nothing() -> None:
    """A request with a session is placed by its name alone."""
    assert 0 <= run("session", SizeOnlyFleet(4), request=request_of(session_id="s")).worker < 4


def test_a_clear_winner_needs_no_loads() -> None:
    """Where one worker holds most, `prefix` does not ask for loads."""
    fleet = fleet_with([9, 9, 9], matched=[1, 5, 2])
    assert run("prefix", fleet) == Decision(1, 5, "longest prefix")
    assert fleet.looks_at_workers == 0


@given(fleet=fleets, turn=turns)
def test_prefix(fleet: FixedFleet, turn: int) -> None:
    """`prefix` takes the longest match, of these the lowest load, of these the next in turn."""
    matched = fleet.matched_blocks(request_of())
    loads = [worker.in_flight for worker in fleet.workers]
    order = sorted(range(len(fleet)), key=lambda i: (-matched[i], loads[i], i < turn, i))
    assert run("prefix", fleet, turn=turn).worker == order[0]


def test_prefix_with_nothing_cached_spreads_evenly() -> None:
    """New prompts to an idle fleet go round, with no favourite."""
    memory = fresh_memory()
    fleet = fleet_with([0] * 4)
    choose = load_policy("prefix")
    workers = [decide(choose, "prefix", request_of(), fleet, memory).worker for _ in range(8)]
    assert workers == [0, 1, 2, 3] * 2


@given(size=st.integers(1, 8), rounds=st.integers(1, 4))
def test_round_robin_is_fair(size: int, rounds: int) -> None:
    """After full rounds every worker has had the same number of requests, each in its turn."""
    memory = fresh_memory()
    choose = load_policy("round-robin")
    workers = [
        decide(choose, "round-robin", request_of(), SizeOnlyFleet(size), memory).worker
        for _ in range(size * rounds)
    ]
    assert workers == list(range(size)) * rounds


@given(fleet=fleets, turn=turns)
def test_least_loaded(fleet: FixedFleet, turn: int) -> None:
    """`least-loaded` takes the fewest in flight, of these the next in turn."""
    loads = [worker.in_flight for worker in fleet.workers]
    expected = min(range(len(fleet)), key=lambda i: (loads[i], i < turn, i))
    assert run("least-loaded", fleet, turn=turn).worker == expected


def test_random_reaches_everyone_about_equally() -> None:
    """Each of 4 workers gets a quarter of 4,000 requests, within 6 standard deviations (27.4 each)."""
    memory = fresh_memory()
    choose = load_policy("random")
    counts = Counter(
        decide(choose, "random", request_of(), SizeOnlyFleet(4), memory).worker for _ in range(4000)
    )
    assert all(abs(counts[worker] - 1000) < 6 * 27.4 for worker in range(4))


@given(loads=st.lists(st.integers(0, 5), min_size=2, max_size=8), seed=st.integers(0, 100))
def test_power_of_two(loads: list[int], seed: int) -> None:
    """`power-of-two` draws two different workers and takes the less loaded, the first drawn if equal."""
    first, second = random.Random(seed).sample(range(len(loads)), 2)
    expected = second if loads[second] < loads[first] else first
    choose = load_policy("power-of-two")
    decision = decide(choose, "power-of-two", request_of(), fleet_with(loads), fresh_memory(seed))
    assert decision.worker == expected


def test_power_of_two_never_takes_the_busiest() -> None:
    """A worker with more in flight than any other loses every draw."""
    memory = fresh_memory()
    choose = load_policy("power-of-two")
    fleet = fleet_with([1, 1, 9, 1])
    assert {decide(choose, "power-of-two", request_of(), fleet, memory).worker for _ in range(100)} == {
        0,
        1,
        3,
    }


def test_power_of_two_with_one_worker() -> None:
    """One worker gets everything, without a draw."""
    assert run("power-of-two", SizeOnlyFleet(1)).worker == 0


@given(session=st.text(), loads=st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_a_session_stays_whatever_the_load(session: str, loads: list[int]) -> None:
    """The session's name alone decides, not load nor what was decided before."""
    request = request_of(session_id=session)
    idle = run("session", fleet_with([0] * 4), request=request)
    assert run("session", fleet_with(loads), request=request, turn=3) == idle


@pytest.mark.parametrize("size", [1, 4, 16])
def test_one_more_worker_moves_only_its_share_of_sessions(size: int) -> None:
    """Of 3,000 sessions 1 in n + 1 moves (within 6 standard deviations), and each to the new worker."""
    requests = [request_of(session_id=f"session-{number}") for number in range(3000)]
    before = [run("session", SizeOnlyFleet(size), request=request).worker for request in requests]
    after = [run("session", SizeOnlyFleet(size + 1), request=request).worker for request in requests]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    share = 1 / (size + 1)
    assert set(moved) == {size}
    assert abs(len(moved) - 3000 * share) < 6 * (3000 * share * (1 - share)) ** 0.5


def test_half_a_surrogate_pair_is_a_session_too() -> None:
    """Any text that JSON can carry names a session."""
    assert 0 <= run("session", SizeOnlyFleet(4), request=request_of(session_id="\ud800")).worker < 4


@given(fleet=fleets, turn=turns)
def test_without_a_session_the_least_loaded(fleet: FixedFleet, turn: int) -> None:
    """A request that belongs to no session is placed by load."""
    assert run("session", fleet, turn=turn).worker == run("least-loaded", fleet, turn=turn).worker


@given(fleet=fleets)
def test_sglang_cache_aware(fleet: FixedFleet) -> None:
    """`sglang-cache-aware` follows sglang-router's rule with thresholds 64, 1.5 and 0.3, first index on ties."""
    loads = [worker.in_flight for worker in fleet.workers]
    matched = fleet.matched_blocks(request_of())
    shortest = loads.index(min(loads))
    imbalanced = max(loads) - min(loads) > 64 and 2 * max(loads) > 3 * min(loads)
    long_enough = Fraction(max(matched), PROMPT_BLOCKS) > Fraction(3, 10)
    expected = shortest if imbalanced or not long_enough else list(matched).index(max(matched))
    assert run("sglang-cache-aware", fleet).worker == expected


@pytest.mark.parametrize(
    ("loads", "expected"),
    [([64, 0], 0), ([65, 0], 1), ([195, 130], 0), ([300, 200], 0), ([301, 200], 1)],
)
def test_sglang_imbalance_needs_both_thresholds(loads: list[int], expected: int) -> None:
    """Affinity yields only beyond a spread of 64 and a ratio of 1.5, both strictly."""
    assert run("sglang-cache-aware", fleet_with(loads, matched=[10, 0])).worker == expected


@pytest.mark.parametrize(("matched", "expected"), [(3, 0), (4, 1)])
def test_sglang_match_must_exceed_three_tenths(matched: int, expected: int) -> None:
    """A match of exactly 0.3 of the prompt is too short."""
    assert run("sglang-cache-aware", fleet_with([0, 5], matched=[0, matched])).worker == expected


def test_sglang_pins_light_traffic_to_the_first_worker() -> None:
    """As upstream: with few requests in flight all prompts that tie go to the first worker."""
    memory = fresh_memory()
    choose = load_policy("sglang-cache-aware")
    fleet = fleet_with([0] * 4)
    assert {decide(choose, "sglang-cache-aware", request_of(), fleet, memory).worker for _ in range(20)} == {
        0
    }


@given(fleet=fleets, turn=turns)
def test_dynamo_kv(fleet: FixedFleet, turn: int) -> None:
    """`dynamo-kv` takes the lowest of Dynamo's costs, of equal ones the next in turn."""
    matched = fleet.matched_blocks(request_of())
    costs = []
    for worker in fleet.workers:
        to_prefill = worker.active_prefill_blocks + PROMPT_BLOCKS - matched[worker.index]
        costs.append(max(to_prefill, 0) + worker.active_decode_blocks)
    expected = min(range(len(costs)), key=lambda i: (costs[i], i < turn, i))
    assert run("dynamo-kv", fleet, turn=turn).worker == expected


def test_dynamo_weighs_overlap_against_load() -> None:
    """A block to prefill and a block to decode weigh the same, so 4 more of one buy 4 of the other."""
    holder = WorkerView(index=0, active_decode_blocks=5)
    idle = WorkerView(index=1)
    assert run("dynamo-kv", FixedFleet([holder, idle], [4, 0])).worker == 1
    assert run("dynamo-kv", FixedFleet([holder, idle], [6, 0])).worker == 0


@given(fleet=fleets, seed=st.integers(0, 100))
def test_llm_d_scorers(fleet: FixedFleet, seed: int) -> None:
    """`llm-d-scorers` takes one of the highest sums of 2 queue, 2 kv and 3 prefix, computed in fractions."""
    matched = fleet.matched_blocks(request_of())
    queues = [worker.waiting for worker in fleet.workers]
    low, high = min(queues), max(queues)
    totals = [
        2 * (Fraction(high - worker.waiting, high - low) if high > low else 1)
        + 2 * (1 - Fraction(worker.kv_usage))
        + 3 * Fraction(matched[worker.index], PROMPT_BLOCKS)
        for worker in fleet.workers
    ]
    choose = load_policy("llm-d-scorers")
    decision = decide(choose, "llm-d-scorers", request_of(PROMPT_BLOCKS), fleet, fresh_memory(seed))
    assert max(totals) - totals[decision.worker] < Fraction(1, 10**9)


def test_llm_d_breaks_ties_by_chance() -> None:
    """Equal workers get about equal shares: 1,000 of 4,000, within 6 standard deviations (27.4 each)."""
    memory = fresh_memory()
    choose = load_policy("llm-d-scorers")
    fleet = fleet_with([0] * 4)
    counts = Counter(decide(choose, "llm-d-scorers", request_of(), fleet, memory).worker for _ in range(4000))
    assert all(abs(counts[worker] - 1000) < 6 * 27.4 for worker in range(4))


@pytest.mark.parametrize("name", known_policies())
def test_a_prompt_shorter_than_a_block_is_routed(name: str) -> None:
    """Policies have an answer for prompts without a single full block."""
    tiny = RoutingRequest(request_id="r", num_prompt_tokens=3, block_hashes=[], block_size=16)
    assert tiny.num_blocks == 1
    assert run(name, fleet_with([2, 1, 3]), request=tiny).matched_blocks == 0


@given(tokens=st.integers(1, 10_000), block_size=st.integers(1, 64))
def test_num_blocks_cover_the_prompt(tokens: int, block_size: int) -> None:
    """A prompt fits its blocks, and not one block fewer."""
    request = RoutingRequest(request_id="r", num_prompt_tokens=tokens, block_hashes=[], block_size=block_size)
    assert (request.num_blocks - 1) * block_size < tokens <= request.num_blocks * block_size


def test_a_misspelt_policy_is_pointed_right() -> None:
    """An unknown name is refused with the nearest known one."""
    with pytest.raises(UsageError, match="unknown policy 'round-robbin': did you mean round-robin"):
        load_policy("round-robbin")
