"""Fault plans and their decisions: validated, seeded, on time, independent of what else goes on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import InputError
from understudy.server.faults import (
    Crash,
    Cut,
    Events,
    FaultInjector,
    FaultPlan,
    FreezeMetrics,
    HttpError,
    Slow,
    Stall,
    load_fault_plan,
    parse_fault_plan,
)

PLAN = b"""
seed: 3
faults:
  - {kind: error, status: 503, rate: 0.5, at_seconds: 10, for_seconds: 20}
  - {kind: stall, after_tokens: 4, stall_seconds: 2}
  - {kind: cut, rate: 0.25, done: true}
  - {kind: slow, factor: 3, at_seconds: 5, for_seconds: 5}
  - {kind: freeze-metrics, at_seconds: 1}
  - {kind: events, lose: 0.1, duplicate: 0.2}
  - {kind: refuse, at_seconds: 100}
  - {kind: crash, at_seconds: 60}
"""


def _injector(*faults: object, now_seconds: float = 0.0, seed: int = 0) -> FaultInjector:
    return FaultInjector(FaultPlan(seed=seed, faults=faults), lambda: now_seconds)  # type: ignore[arg-type] # any mix


def test_a_plan_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    """Every kind with its defaults; JSON is YAML too."""
    plan = parse_fault_plan(PLAN, "here")
    assert plan.seed == 3
    assert [type(fault).__name__ for fault in plan.faults] == [
        *("HttpError", "Stall", "Cut", "Slow", "FreezeMetrics", "Events", "Refuse", "Crash")
    ]
    crash = plan.faults[-1]
    assert isinstance(crash, Crash)
    assert crash.for_seconds == 10
    path = tmp_path / "plan.json"
    path.write_text('{"faults": [{"kind": "slow"}]}', encoding="utf-8")
    assert load_fault_plan(path).faults == (Slow(factor=2.0),)


@pytest.mark.parametrize(
    "data",
    [
        b"faults: [{kind: nothing}]",
        b"faults: [{kind: error, status: 200}]",
        b"faults: [{kind: error, rate: 1.5}]",
        b"faults: [{kind: slow, factor: 0}]",
        b"faults: [{kind: stall, tokens: 3}]",
        b"faults: {}",
        b"fault: []",
        b"faults: [",
        b"\xff",
    ],
)
def test_a_malformed_plan_is_one_clear_error(data: bytes) -> None:
    """It names the place."""
    with pytest.raises(InputError, match="here is no fault plan"):
        parse_fault_plan(data, "here")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which."""
    with pytest.raises(InputError, match=r"cannot read .*nothing\.yaml"):
        load_fault_plan(tmp_path / "nothing.yaml")


@given(st.floats(0, 100), st.floats(0, 50), st.floats(0, 50))
def test_a_fault_holds_for_its_time_only(now: float, start: float, length: float) -> None:
    """From its start, inclusive, to its end, exclusive."""
    fault = Slow(at_seconds=start, for_seconds=length)
    factor = _injector(fault, now_seconds=now).slow_factor()
    assert (factor == 2.0) is (start <= now < start + length)


def test_slowness_multiplies_and_metrics_freeze() -> None:
    """Two factors at once are their product."""
    injector = _injector(Slow(factor=2), Slow(factor=3), FreezeMetrics())
    assert injector.slow_factor() == 6
    assert injector.metrics_are_frozen()
    assert not _injector().metrics_are_frozen()


@given(st.lists(st.binary(max_size=8), max_size=30), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_other_requests_changes_nothing(bodies: list[bytes], seed: int, rng: object) -> None:
    """What happens to the nth request with some body is the same in any interleaving."""
    faults = (HttpError(rate=0.5), Cut(rate=0.3), Stall(rate=0.2))
    shuffled = list(bodies)
    rng.shuffle(shuffled)  # type: ignore[attr-defined] # a random.Random

    def decided(order: list[bytes]) -> list[tuple[bytes, object]]:
        injector = _injector(*faults, seed=seed)
        return sorted(((body, injector.for_request(body)) for body in order), key=repr)

    assert decided(bodies) == decided(shuffled)


def test_rates_are_met() -> None:
    """Of 4,000 requests a quarter, give or take 2 %; at 0 none, at 1 all."""
    for rate, least, most in ((0.25, 920, 1080), (0.0, 0, 0), (1.0, 4000, 4000)):
        injector = _injector(HttpError(status=429, rate=rate))
        struck = sum(injector.for_request(b"%d" % number).error_status == 429 for number in range(4000))
        assert least <= struck <= most


def test_a_retry_has_a_chance_of_its_own() -> None:
    """The same body is not struck for ever."""
    injector = _injector(HttpError(rate=0.5))
    outcomes = {injector.for_request(b"same").error_status for _ in range(64)}
    assert outcomes == {None, 500}


def test_events_are_struck_by_their_rates() -> None:
    """Each kind by its own, and all kinds are told."""
    told: list[str] = []
    plan = FaultPlan(faults=(Events(lose=0.2, delay=0.2, duplicate=0.2, reorder=0.2),))
    injector = FaultInjector(plan, lambda: 0.0, told.append)
    found = [injector.for_events(0, number) for number in range(1000)]
    for struck in (
        sum(fault.lost for fault in found),
        sum(fault.delay_seconds > 0 for fault in found),
        sum(fault.duplicated for fault in found),
        sum(fault.swapped for fault in found),
    ):
        assert 150 < struck < 250
    assert set(told) == {"events"}
