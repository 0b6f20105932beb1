"""SlowWorkers: whoever is slow gets next to nothing, and nobody is taken for slow who has merely more to do."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.routing.slow_fleet import ENGINE, NS_PER_SECOND, Arrival, SlowFleet, arrivals

from understudy.routing import SlowWorkers, Watched, known_policies
from understudy.routing.slowness import (
    ANOTHER_CHANCE_NS,
    JUDGED_EVERY_NS,
    TRICKLE_PERIOD,
    TRICKLE_PERIOD_PER_WORKER,
    slowness,
)
from understudy.routing.worker_speed import Speed

SLOW_AT_NS = 4 * NS_PER_SECOND
NOTICED_NS = SLOW_AT_NS + 10 * NS_PER_SECOND
END_NS = NOTICED_NS + 8 * NS_PER_SECOND
CHAT = Arrival(0, 0, shared_tokens=1_000, own_tokens=200)


def run_with_a_slow_worker(fleet: SlowFleet, work: list[Arrival], *, slow: int) -> None:
    """Let one worker become ten times slower after 4 s of work."""
    fleet.run([arrival for arrival in work if arrival.at_ns < SLOW_AT_NS], SLOW_AT_NS)
    fleet.slows_down(slow, 10)
    fleet.run([arrival for arrival in work if arrival.at_ns >= SLOW_AT_NS], END_NS)


def ttft_p99_ns(fleet: SlowFleet) -> int:
    """Return the 99th percentile of the times to first tokens, of requests from 10 s after the slowing on."""
    found = sorted(ttft_ns for arrived_ns, ttft_ns in fleet.ttft_ns if arrived_ns >= NOTICED_NS)
    return found[len(found) * 99 // 100]


@pytest.mark.parametrize("policy", known_policies())
@pytest.mark.parametrize("num_workers", [2, 6])
def test_a_slow_worker_loses_its_share(policy: str, num_workers: int) -> None:
    """10 s after one became ten times slower it gets less than a quarter of a fair share, and nobody else is accused."""
    fleet = SlowFleet(num_workers, policy)
    slow = num_workers - 1
    run_with_a_slow_worker(
        fleet, arrivals(1, 1.5 * num_workers, END_NS / NS_PER_SECOND, CHAT, families=30), slow=slow
    )
    late = [worker for at_ns, worker in fleet.decisions if at_ns >= NOTICED_NS]
    assert late.count(slow) < 0.25 * len(late) / num_workers
    assert fleet.accused.keys() == {slow}


def test_the_others_answer_as_if_it_were_not_there() -> None:
    """The fleet's 99th percentile of TTFT is at most 1.5 times that of the healthy ones alone under the same load."""
    work = arrivals(2, 24, END_NS / NS_PER_SECOND, CHAT, families=30)
    fleet, healthy, unguarded = SlowFleet(6), SlowFleet(5), SlowFleet(6, judges=False)
    run_with_a_slow_worker(fleet, work, slow=3)
    run_with_a_slow_worker(unguarded, work, slow=3)
    healthy.run(work, END_NS)
    assert ttft_p99_ns(fleet) <= 1.5 * ttft_p99_ns(healthy) < ttft_p99_ns(unguarded)


def test_a_worker_that_gives_no_tokens_at_all_is_slow() -> None:
    """One that hangs without failing is found as well."""
    fleet = SlowFleet(4)
    fleet.run(arrivals(3, 8, 4), SLOW_AT_NS)
    fleet.slows_down(0, 100_000)
    fleet.run(arrivals(4, 8, 14)[32:], NOTICED_NS)
    assert fleet.accused.keys() == {0}


def test_who_is_fast_again_gets_its_share_again() -> None:
    """The trickle shows that a worker has recovered."""
    fleet = SlowFleet(3)
    work = arrivals(5, 40, 60)
    run_with_a_slow_worker(fleet, [arrival for arrival in work if arrival.at_ns < END_NS], slow=1)
    assert 1 in fleet.slow_workers.slow(END_NS)
    fleet.slows_down(1, 1)
    fleet.run([arrival for arrival in work if arrival.at_ns >= END_NS], 60 * NS_PER_SECOND)
    last = [worker for at_ns, worker in fleet.decisions if at_ns >= 50 * NS_PER_SECOND]
    assert last.count(1) > 0.25 * len(last)


def uneven_work(seed: int, num_workers: int) -> list[Arrival]:
    """Return up to three kinds of requests at once: short and long prompts, shared and not, short and long answers."""
    rng = random.Random(seed)
    work: list[Arrival] = []
    for kind in range(rng.choice([1, 2, 3])):
        template = Arrival(
            0,
            0,
            shared_tokens=rng.choice([0, 0, 500, 3_000, 8_000]),
            own_tokens=rng.choice([20, 100, 500, 2_000, 7_000]),
            answer_tokens=rng.choice([5, 50, 200, 800]),
        )
        rate, families = rng.choice([0.3, 1, 3]) * num_workers / 4, rng.choice([1, 2, 5, 40])
        work += [
            replace(arrival, number=arrival.number + 100_000 * kind, family=arrival.family + 50 * kind)
            for arrival in arrivals(seed * 10 + kind, rate, 12, template, families=families)
        ]
    return work


@pytest.mark.parametrize("seed", range(30))
def test_more_work_is_not_slowness(seed: int) -> None:
    """In a healthy fleet nobody is accused, whatever its work, its policy and the room of its caches."""
    rng = random.Random(-seed)
    num_workers = rng.choice([2, 3, 5])
    engine = replace(
        ENGINE,
        num_gpu_blocks=rng.choice([1_100, 2_000, 4_000]),
        max_num_batched_tokens=rng.choice([2_048, 8_192]),
        max_num_seqs=rng.choice([16, 256]),
    )
    fleet = SlowFleet(num_workers, rng.choice(known_policies()), engine=engine)
    fleet.run(uneven_work(seed, num_workers), 12 * NS_PER_SECOND)
    assert not fleet.accused


def test_a_full_worker_beside_an_idle_one_is_not_slow() -> None:
    """All sessions at one of two workers, with long contexts and more than its cache can hold."""
    fleet = SlowFleet(2, "session")
    heavy = replace(CHAT, shared_tokens=8_000, own_tokens=500, answer_tokens=800)
    work = arrivals(6, 10, 14, heavy) + [
        replace(arrival, number=arrival.number + 100_000, family=3)
        for arrival in arrivals(7, 0.3, 14, Arrival(0, 0, own_tokens=7_000, answer_tokens=5))
    ]
    fleet.run(work, 14 * NS_PER_SECOND)
    assert {worker for _, worker in fleet.decisions} == {0, 1}
    assert not fleet.accused


def stream(workers: SlowWorkers, slot: int, prompt_tokens: int = 100) -> Watched:
    """Start an answer at time 0 that has begun 10 ms later."""
    watched = workers.watch(slot, prompt_tokens, prompt_tokens, 0)
    watched.began(NS_PER_SECOND // 100)
    return watched


def judged(tokens_a_second: list[float], seconds: int = 5) -> tuple[SlowWorkers, int]:
    """Return workers of which each has given one answer at this speed, and the time."""
    workers, now_ns = SlowWorkers(), 0
    for slot in range(len(tokens_a_second)):
        workers.add(slot)
    streams = [stream(workers, slot) for slot in range(len(tokens_a_second))]
    for _ in range(2 * seconds):
        now_ns += JUDGED_EVERY_NS
        for watched, speed in zip(streams, tokens_a_second, strict=True):
            watched.tokens += round(speed / 2)
        workers.slow(now_ns)
    return workers, now_ns


@given(slow=st.sets(st.integers(0, 6)), size=st.integers(1, 7))
def test_never_more_than_half_of_the_fleet(slow: set[int], size: int) -> None:
    """Where most are slow that is normal, and of the rest at most half of all are taken for slow."""
    workers, now_ns = judged([10 if slot in slow else 100 for slot in range(size)])
    found = workers.slow(now_ns)
    expected = {slot for slot in slow if slot < size}
    assert found == (expected if len(expected) <= size // 2 else set())


def test_a_fleet_that_shrinks_has_fewer_slow_workers_at_once() -> None:
    """The bound holds as well when a worker has just left, and one that has left is not slow."""
    workers, now_ns = judged([100, 100, 10, 9])
    assert workers.slow(now_ns) == {2, 3}
    workers.remove(0)
    assert workers.slow(now_ns) == {3}
    workers.remove(3)
    assert workers.slow(now_ns) == {2}
    workers.remove(2)
    assert workers.slow(now_ns) == set()


def test_a_long_prompt_under_way_is_not_slowness() -> None:
    """While a prompt of 100,000 tokens is computed, its neighbours' tokens come slowly, and nobody is blamed."""
    workers = SlowWorkers()
    for slot in (0, 1):
        workers.add(slot)
    streams = [stream(workers, slot) for slot in (0, 1)]
    workers.watch(0, 100_000, 100_000, NS_PER_SECOND // 100)
    for step in range(2, 10):
        streams[0].tokens += 2
        streams[1].tokens += 50
        assert not workers.slow(step * JUDGED_EVERY_NS)


def test_a_trickle_remains() -> None:
    """Of so many requests one may go to slow workers, at least one in 128 and an eighth of a fair share."""
    workers, now_ns = judged([100, 100, 10])
    period = max(TRICKLE_PERIOD, TRICKLE_PERIOD_PER_WORKER * 3)
    offered = [list(workers.spared([0, 1, 2], now_ns)) for _ in range(3 * period)]
    assert offered == ([[0, 1]] * (period - 1) + [[0, 1, 2]]) * 3


def test_slow_workers_are_better_than_none() -> None:
    """Where only slow ones may be chosen, they are; where none of them may, nothing changes."""
    workers, now_ns = judged([100, 100, 10])
    assert list(workers.spared([2], now_ns)) == [2]
    assert list(workers.spared([0, 1], now_ns)) == [0, 1]


def test_who_is_not_heard_of_gets_another_chance() -> None:
    """A slow worker that gives no answers for a minute is taken for normal again."""
    workers, now_ns = judged([100, 100, 10])
    workers.remove(0)
    workers.add(0)
    assert workers.slow(now_ns) == {2}
    silent, at_ns = SlowWorkers(), 0
    for slot in range(3):
        silent.add(slot)
    streams = [stream(silent, slot) for slot in range(3)]
    for _ in range(6):
        at_ns += JUDGED_EVERY_NS
        for watched, tokens in zip(streams, (50, 50, 5), strict=True):
            watched.tokens += tokens
        silent.slow(at_ns)
    streams[2].ended(at_ns)
    assert silent.slow(at_ns + JUDGED_EVERY_NS) == {2}
    seconds = range(1, ANOTHER_CHANCE_NS // NS_PER_SECOND + 10)
    found = [silent.slow(at_ns + second * NS_PER_SECOND) for second in seconds]
    assert found[50] == {2}
    assert found[-1] == set()


def test_a_worker_that_left_is_neither_slow_nor_missed() -> None:
    """Its last answers may still end, and whoever gets its slot starts afresh."""
    workers = SlowWorkers()
    workers.add(0)
    watched = stream(workers, 0)
    workers.remove(0)
    watched.tokens += 5
    watched.ended(NS_PER_SECOND)
    workers.add(0)
    assert workers.slow(2 * NS_PER_SECOND) == set()


@given(
    step_ns=st.floats(1e6, 1e8),
    token_ns=st.floats(1e3, 1e6),
    shares=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=7),
    times=st.floats(1, 100),
)
def test_the_law_behind_it(step_ns: float, token_ns: float, shares: list[float], times: float) -> None:
    """A healthy engine never seems more than twice as slow as the best could be, a slower one at least as slow as it is.

    Whatever share of their time they spend on prompts, the slower one beside one that divides its time alike.
    """

    def speed(share: float, slower: float = 1.0) -> Speed:
        return Speed(1e9, 0.0, (1 - share) / (slower * step_ns), share / (slower * token_ns), 100.0)

    best = Speed(1e9, 1.0, 1 / step_ns, 1 / token_ns, 100.0)
    for share in shares:
        assert slowness(speed(share), best) <= 2.000001
        assert slowness(speed(share, times), speed(share)) >= 0.999999 * times


@given(
    step_ns=st.floats(1e6, 1e8), contexts=st.lists(st.floats(0.001, 8), min_size=2, max_size=2).map(sorted)
)
def test_reading_much_context_is_not_slowness(step_ns: float, contexts: list[float]) -> None:
    """An engine that reads contexts of up to eight times the weights in each step seems at most twice as slow as others."""
    little, much = (
        Speed(1e9, 1.0, 1 / (step_ns * (1 + context)), None, 1_000_000 * context) for context in contexts
    )
    assert slowness(much, little) <= 2
    assert slowness(little, much) <= 1.000001
