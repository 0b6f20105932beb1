"""FleetHealth against a model that replays each worker's whole story whenever it is asked."""

import random
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from understudy.routing import Failure, FleetHealth, Health

SECOND = 1_000_000_000
NUM_SLOTS = 4


class _Told(NamedTuple):
    at_ns: int
    what: str


class _Verdict(NamedTuple):
    state: Health
    ejected_ns: int
    ends_ns: int


def judge(story: list[_Told], now_ns: int) -> _Verdict:
    """Replay what was told of one worker, second by second rules restated: ejection, its length, probes."""
    state, probes = Health.STARTING, ""
    errors, in_a_row = 0, 0
    began_ns = ends_ns = 0
    refused = False
    for at_ns, what in story:
        if what in "+-":
            probes += what
            if what == "+" and refused and at_ns < ends_ns:
                ends_ns = at_ns
            if state is Health.STARTING and what == "+":
                state = Health.HEALTHY
            elif state is Health.HEALTHY and probes.endswith("---"):
                state = Health.UNHEALTHY
            elif state is Health.UNHEALTHY and probes.endswith("++"):
                state = Health.HEALTHY
        elif what == "ok":
            errors = 0
        elif at_ns < ends_ns:
            refused = refused or what == "refused"
        else:
            errors += what == "error"
            if errors == 5 or what == "refused":
                in_a_row = max(0, in_a_row - (at_ns - ends_ns) // (10 * SECOND)) + 1
                began_ns, ends_ns = at_ns, at_ns + min(30 * in_a_row, 300) * SECOND
                refused, errors = what == "refused", 0
    if state is Health.HEALTHY and now_ns < ends_ns:
        state = Health.UNREACHABLE if refused else Health.EJECTED
    return _Verdict(state, began_ns, ends_ns if now_ns < ends_ns else 0)


class Twins:
    """Tells a FleetHealth and the model the same, and compares whatever can be asked."""

    def __init__(self) -> None:
        self.health = FleetHealth()
        self.stories: dict[int, list[_Told]] = {}
        self.now_ns = 1

    def join_or_leave(self, slot: int) -> None:
        """Let a worker join, or leave if it is there."""
        if slot in self.stories:
            self.health.remove(slot)
            del self.stories[slot]
        else:
            self.health.add(slot)
            self.stories[slot] = []

    def tell(self, slot: int, what: str) -> None:
        """Let something become known of a slot, whether there is a worker or not."""
        match what:
            case "ok":
                self.health.succeeded(slot)
            case "error":
                self.health.failed(slot, Failure.ERROR, self.now_ns)
            case "refused":
                self.health.failed(slot, Failure.NO_CONNECTION, self.now_ns)
            case _:
                self.health.probed(slot, self.now_ns, passed=what == "+")
        if slot in self.stories:
            self.stories[slot].append(_Told(self.now_ns, what))

    def compare(self) -> None:
        """Assert that all answers agree, and what holds of them whatever was told."""
        verdicts = {slot: judge(story, self.now_ns) for slot, story in sorted(self.stories.items())}
        usable = self.health.usable(self.now_ns)
        assert usable == self._usable(verdicts)
        assert self.health.usable(self.now_ns) is usable
        for slot, verdict in verdicts.items():
            assert self.health.state(slot, self.now_ns) is verdict.state
        ends_ns = [verdict.ends_ns for verdict in verdicts.values() if verdict.ends_ns]
        assert self.health.next_change_ns(self.now_ns) == min(ends_ns, default=None)
        in_reach = [v for v in verdicts.values() if v.state in {Health.HEALTHY, Health.EJECTED}]
        assert 2 * len(usable) >= len(in_reach)
        assert bool(usable) == any(v.state is not Health.STARTING for v in verdicts.values())

    @staticmethod
    def _usable(verdicts: dict[int, _Verdict]) -> tuple[int, ...]:
        of = {state: [s for s, v in verdicts.items() if v.state is state] for state in Health}
        ejected = sorted(of[Health.EJECTED], key=lambda slot: (verdicts[slot].ejected_ns, slot))
        out = ejected[: len(of[Health.HEALTHY] + ejected) // 2]
        usable = [slot for slot in of[Health.HEALTHY] + ejected if slot not in out]
        started = [slot for slot in verdicts if slot not in of[Health.STARTING]]
        return tuple(sorted(usable or started))


slots = st.integers(0, NUM_SLOTS - 1)


class FleetHealthMachine(RuleBasedStateMachine):
    """Any story."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins()
        for slot in range(NUM_SLOTS):
            self.twins.join_or_leave(slot)
            self.twins.tell(slot, "+")

    @rule(slot=slots)
    def join_or_leave(self, slot: int) -> None:
        """Let a worker join or leave."""
        self.twins.join_or_leave(slot)

    @rule(slot=slots, what=st.sampled_from(["ok", "error", "refused", "+", "-"]), times=st.integers(1, 6))
    def tell(self, slot: int, what: str, times: int) -> None:
        """Let the same happen a few times."""
        for _ in range(times):
            self.twins.tell(slot, what)

    @rule(seconds=st.sampled_from([1, 9, 10, 29, 30, 31, 60, 299, 300, 301]), more_ns=st.integers(-1, 1))
    def pass_time(self, seconds: int, more_ns: int) -> None:
        """Let time pass, in particular to where something ends."""
        self.twins.now_ns += seconds * SECOND + more_ns

    @invariant()
    def both_agree(self) -> None:
        """Compare."""
        self.twins.compare()


FleetHealthMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
test_any_story_told_to_health_and_model_ends_the_same = FleetHealthMachine.TestCase


def test_two_thousand_stories() -> None:
    """The same by chance alone, for more stories than shrinkable ones would have time for."""
    for seed in range(2_000):
        rng, twins = random.Random(seed), Twins()
        for slot in range(NUM_SLOTS):
            twins.join_or_leave(slot)
            twins.tell(slot, "+")
        for _ in range(25):
            slot = rng.randrange(NUM_SLOTS)
            what = rng.choice(["ok", "error", "error", "error", "refused", "+", "-", "time", "time", "move"])
            if what == "time":
                twins.now_ns += rng.choice([1, 10, 30, 45, 60]) * SECOND
            elif what == "move":
                twins.join_or_leave(slot)
            else:
                for _ in range(rng.choice([1, 2, 5])):
                    twins.tell(slot, what)
            twins.compare()


def fleet_of(size: int) -> FleetHealth:
    """Return a fleet of healthy workers."""
    health = FleetHealth()
    for slot in range(size):
        health.add(slot)
        health.probed(slot, 0, passed=True)
    return health


def fail(health: FleetHealth, slot: int, now_ns: int, times: int = 5) -> None:
    """Let requests to a worker fail."""
    for _ in range(times):
        health.failed(slot, Failure.ERROR, now_ns)


def test_the_fifth_error_in_a_row_ejects_at_once() -> None:
    """Four do not, nor do more with a success among them."""
    health = fleet_of(2)
    fail(health, 0, 0, times=4)
    health.succeeded(0)
    fail(health, 0, 0, times=4)
    assert health.usable(0) == (0, 1)
    fail(health, 0, 0, times=1)
    assert health.usable(0) == (1,)
    assert health.state(0, 0) is Health.EJECTED


def test_ejections_grow_longer_up_to_five_minutes() -> None:
    """30 s, 60 s, 90 s, ... 300 s, where each begins as the one before it is over."""
    health, now_ns = fleet_of(2), 0
    for number in range(1, 14):
        fail(health, 0, now_ns)
        ends_ns = now_ns + min(30 * number, 300) * SECOND
        assert health.next_change_ns(now_ns) == ends_ns
        assert health.usable(ends_ns - 1) == (1,)
        assert health.usable(ends_ns) == (0, 1)
        now_ns = ends_ns


def test_calm_makes_ejections_short_again() -> None:
    """Each 10 s without takes one from the number of those in a row."""
    health = fleet_of(2)
    fail(health, 0, 0)
    fail(health, 0, 30 * SECOND)
    fail(health, 0, 90 * SECOND + 20 * SECOND)
    assert health.next_change_ns(110 * SECOND) == 140 * SECOND


@pytest.mark.parametrize("size", range(1, 9))
def test_errors_eject_at_most_half_of_the_fleet(size: int) -> None:
    """Where all fail, those that failed first are out, and the others go on."""
    health = fleet_of(size)
    for slot in range(size):
        fail(health, slot, slot)
    assert health.usable(size) == tuple(range(size // 2, size))


def test_whoever_refuses_connections_is_out_without_a_bound_until_a_probe_passes() -> None:
    """Seven dead workers of eight leave one, and each is back with its first passed probe."""
    health = fleet_of(8)
    for slot in range(7):
        health.failed(slot, Failure.NO_CONNECTION, 0)
    assert health.usable(0) == (7,)
    assert health.state(0, 0) is Health.UNREACHABLE
    health.probed(3, SECOND, passed=True)
    assert health.usable(SECOND) == (3, 7)
    assert health.usable(30 * SECOND) == tuple(range(8))


def test_a_passed_probe_does_not_forgive_errors() -> None:
    """A worker can say that it is well and answer nothing but errors."""
    health = fleet_of(2)
    fail(health, 0, 0)
    health.probed(0, SECOND, passed=True)
    assert health.usable(SECOND) == (1,)


def test_three_failed_probes_are_too_many_and_two_passed_ones_enough() -> None:
    """Fewer in a row change nothing."""
    health = fleet_of(2)
    seen = []
    for passed in (False, False, True, False, False, False, True, False, True, True):
        health.probed(0, 0, passed=passed)
        seen.append(health.state(0, 0) is Health.HEALTHY)
    assert seen == [True] * 5 + [False] * 4 + [True]


def test_nobody_is_tried_before_it_has_started() -> None:
    """A worker joins with its first passed probe; a fleet that is starting has nobody to try."""
    health = FleetHealth()
    health.add(3)
    health.probed(3, 0, passed=False)
    assert health.usable(0) == ()
    health.add(1)
    health.probed(1, 0, passed=True)
    assert health.usable(0) == (1,)
    assert health.state(3, 0) is Health.STARTING


def test_rather_all_than_none() -> None:
    """Where nobody is left, all that have ever been well are tried."""
    health = fleet_of(3)
    health.add(3)
    for slot in range(3):
        health.failed(slot, Failure.NO_CONNECTION, 0)
    assert health.usable(0) == (0, 1, 2)


def test_the_answer_is_kept_while_nothing_changes() -> None:
    """Successes, single errors and passed probes of healthy workers cost no new search."""
    health = fleet_of(3)
    usable = health.usable(0)
    health.succeeded(0)
    fail(health, 1, 0, times=4)
    health.probed(2, 0, passed=True)
    health.succeeded(17)
    health.failed(17, Failure.NO_CONNECTION, 0)
    assert health.usable(10**18) is usable
