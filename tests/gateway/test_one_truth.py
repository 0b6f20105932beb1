"""The router, its workers and the simulator give the same decisions and the same timeline for the same arrivals.

The simulator hears KV events when vLLM publishes them, which is when a step ends. Its exact knowledge is of what the step in
flight has cached or dropped as well, which no worker has told yet: the two are one where no step is in flight.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import accumulate
from selectors import SelectorKey
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.gateway.routed import Routed, routed
from tests.replay.replaying import replayed
from tests.support.virtual_time import QUIET_SECONDS

from understudy.engine import Prompt, SegmentPrompt, TokenPrompt
from understudy.fleet import FleetConfig, NewsTiming, RequestRecord, Simulation
from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome
from understudy.routing import (
    Choose,
    Decision,
    FleetView,
    Knowledge,
    PolicyMemory,
    RoutingRequest,
    WorkerView,
    load_policy,
    worker_key,
)
from understudy.testing.quiet_loop import InlineExecutor
from understudy.workload import OpenLoop, WorkloadRequest

T = TypeVar("T")

MAX_MODEL_LEN = 256
SYSTEM_TOKENS = 48
"""What all sessions of a family begin with, and the size of a segment."""
MOST_REAL_SECONDS = 5.0
"""How long ZeroMQ may take, in real time, to bring what was published."""

LOOKING_POLICIES = ("prefix", "dynamo-kv", "sglang-cache-aware")
BLIND_POLICIES = ("least-loaded", "round-robin", "session", "power-of-two", "random")
POLICIES = LOOKING_POLICIES + BLIND_POLICIES
"""All but `llm-d-scorers`, which lives by what workers report of their load: when they are asked is a matter of chance."""


class Told(NamedTuple):
    """What both sides say of a request, but its times."""

    request_id: str
    status: str
    prompt_tokens: int
    output_tokens: int
    worker: int | None
    reason: str | None
    believed_cached_tokens: int | None
    cached_tokens: int | None


class Times(NamedTuple):
    """When what happened, in nanoseconds of the trace's clock."""

    arrival_ns: int
    first_token_ns: int | None
    finish_ns: int | None


class Scene(NamedTuple):
    """A fleet, and what it is asked."""

    policy: str
    num_workers: int
    seed: int
    flags: Sequence[str]
    workload: Sequence[WorkloadRequest]


# -- traces ----------------------------------------------------------------------------------------------------


def _prompt(session: int, num_tokens: int, *, is_segments: bool) -> Prompt:
    """Return a beginning of the session's text, whose own beginning is that of every other session."""
    family = session % 2
    if is_segments:
        num_own = max(-(-num_tokens // SYSTEM_TOKENS) - 1, 0)
        ids = [1 + family, *(1_000 * (session + 1) + number for number in range(num_own))]
        return SegmentPrompt(num_tokens, ids, SYSTEM_TOKENS)
    ids = [500 + family] * SYSTEM_TOKENS + [
        1_000 * (session + 1) + place % 7 for place in range(MAX_MODEL_LEN)
    ]
    return TokenPrompt(ids[:num_tokens])


@st.composite
def _workloads(draw: st.DrawFn, gaps_ns: st.SearchStrategy[int]) -> list[WorkloadRequest]:
    """Draw sessions whose every turn has the one before as its beginning, side by side."""
    is_segments = draw(st.booleans())
    turns = draw(
        st.lists(
            st.tuples(gaps_ns, st.integers(0, 6), st.integers(1, 60), st.integers(1, 12)),
            min_size=25,
            max_size=40,
        )
    )
    arrivals_ns = accumulate(gap_ns for gap_ns, *_ in turns)
    lengths: dict[int, int] = {}
    workload = []
    for number, (arrival_ns, (_, session, new_tokens, output_tokens)) in enumerate(
        zip(arrivals_ns, turns, strict=True)
    ):
        lengths[session] = (lengths.get(session, 20) + new_tokens - 1) % (MAX_MODEL_LEN - 20) + 1
        workload.append(
            WorkloadRequest(
                request_id=f"r{number}",
                arrival_ns=arrival_ns,
                prompt=_prompt(session, lengths[session], is_segments=is_segments),
                output_tokens=output_tokens,
                session_id=None if session == 6 else f"s{session}",
            )
        )
    return workload


def _scenes(gaps_ns: st.SearchStrategy[int], policies: Sequence[str] = POLICIES) -> st.SearchStrategy[Scene]:
    return st.builds(
        Scene,
        policy=st.sampled_from(policies),
        num_workers=st.integers(2, 4),
        seed=st.integers(0, 3),
        flags=st.sampled_from(
            [
                (),
                ("--num-gpu-blocks-override", "26"),
                ("--num-gpu-blocks-override", "40", "--no-async-scheduling"),
            ]
        ),
        workload=_workloads(gaps_ns),
    )


_BUSY_GAPS_NS = st.integers(1_000, 30_000_000).map(lambda gap_ns: gap_ns + 7)
_IDLE_GAPS_NS = st.integers(500_000_000, 600_000_000)
"""Longer than any answer takes on a worker that has no other."""


# -- time ------------------------------------------------------------------------------------------------------


class _PatientSelector(selectors.DefaultSelector):
    """Moves the loop's clock where no socket has anything to say, and ZeroMQ's thread, which knows no clock, nothing under way."""

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self.is_news_under_way: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        give_up = time.monotonic() + MOST_REAL_SECONDS
        while not (events := super().select(QUIET_SECONDS)) and self.is_news_under_way():
            assert time.monotonic() < give_up, "what was published never came"
        if not events:
            self.now_seconds += timeout
        return events


class _PatientLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, which starts at 0."""

    def __init__(self) -> None:
        self.selector = _PatientSelector()
        super().__init__(self.selector)
        self.set_default_executor(InlineExecutor())

    def time(self) -> float:
        return self.selector.now_seconds


def _in_patient_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_PatientLoop) as runner:
        return runner.run(main)


def _be_patient(fleet: Routed) -> None:
    """From now on the router has heard of a step before any time passes, and judges its workers by the loop's time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _PatientLoop)
    published = {worker.url: worker.worker.publishers for worker in fleet.workers}

    def is_news_under_way() -> bool:
        return any(
            news._subscriber is not None
            and news._subscriber.figures.num_batches
            < sum(one.next_sequence for one in published[member.name])
            for member, news in fleet.router._news.items()
        )

    loop.selector.is_news_under_way = is_news_under_way
    ahead_ns = time.monotonic_ns() - round(loop.time() * 1e9)
    fleet.router.fleet._now_ns = lambda: ahead_ns + round(loop.time() * 1e9)


# -- both sides ------------------------------------------------------------------------------------------------


class _Exchanges:
    """What the router tells of each request; an `Observer`."""

    def __init__(self) -> None:
        self.believed: dict[str, int] = {}

    def answered(self, exchange: Exchange) -> None:
        """Keep what was expected."""
        self.believed[exchange.request_id] = exchange.predicted_cached_tokens

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Find fault: no worker fails here."""
        raise AssertionError(f"{member.name} was {outcome}")


class _Named:
    """A simulator's `FleetView` whose workers have the names of real ones."""

    def __init__(self, fleet: FleetView, keys: Sequence[int]) -> None:
        self._fleet = fleet
        self.keys = keys

    def __len__(self) -> int:
        return len(self._fleet)

    @property
    def slots(self) -> Sequence[int]:
        """As they are."""
        return self._fleet.slots

    @property
    def workers(self) -> Sequence[WorkerView]:
        """As they are."""
        return self._fleet.workers

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """As they are."""
        return self._fleet.matched_blocks(request)


def _with_names(choose: Choose, names: Sequence[str]) -> Choose:
    """Return a policy that takes the workers of a simulation for those of these names: sessions depend on them alone."""
    keys = [worker_key(name) for name in names]

    def named(request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision | int:
        return choose(request, _Named(fleet, keys), memory)

    return named


async def _both(scene: Scene, route_knowledge: str, knowledge: Knowledge) -> None:
    """Send a trace through the router and through the simulator, and compare."""
    flags = ("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "6", *scene.flags)
    async with routed(
        scene.num_workers, *flags, policy=scene.policy, seed=scene.seed, knowledge=route_knowledge
    ) as fleet:
        _be_patient(fleet)
        exchanges = _Exchanges()
        fleet.router.observe(exchanges)
        names = sorted(worker.url for worker in fleet.workers)
        replay = await replayed(fleet.url, OpenLoop(scene.workload))
        _assert_equal(
            [
                record.seen._replace(
                    worker=None if record.worker_name is None else names.index(record.worker_name),
                    believed_cached_tokens=exchanges.believed[record.seen.request_id],
                )
                for record in replay.records
            ],
            _simulated(fleet, scene, knowledge, names),
        )
        for worker in fleet.workers:
            worker.assert_nothing_is_left()
        assert all(
            not (view.in_flight or view.active_prefill_blocks or view.active_decode_blocks)
            for view in fleet.router.fleet.state.views_at(0)
        )


def _simulated(
    fleet: Routed, scene: Scene, knowledge: Knowledge, names: Sequence[str]
) -> list[RequestRecord]:
    setup = fleet.workers[0].worker.settings.setup
    config = FleetConfig(
        engine=setup.config,
        latency=setup.latency,
        num_workers=scene.num_workers,
        policy=scene.policy,
        choose=_with_names(load_policy(scene.policy), names),
        knowledge=knowledge,
        news=NewsTiming(delay_ns=0),
        seed=scene.seed,
    )
    simulation = Simulation(config, OpenLoop(scene.workload))
    simulation.run()
    simulation.finish()
    return simulation.records


def _assert_equal(clients: Sequence[RequestRecord], simulation: Sequence[RequestRecord]) -> None:
    """Compare, times to the microsecond: they pass through an event loop's floating point."""
    assert [_part(Told, record) for record in clients] == [_part(Told, record) for record in simulation]
    for one, other in zip(clients, simulation, strict=True):
        assert _part(Times, one) == pytest.approx(_part(Times, other), abs=1_000), one.request_id


def _part(kind: type[tuple[Any, ...]], record: RequestRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in kind.__annotations__)


# -- laws ------------------------------------------------------------------------------------------------------

_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failing trace is told as it is: a shorter one would take minutes to find."""


@settings(max_examples=15, phases=_PHASES)
@given(scene=_scenes(_BUSY_GAPS_NS))
def test_a_router_that_hears_events_decides_as_the_simulator(scene: Scene) -> None:
    """Worker, reason, expected and cached tokens of every request are equal, under load, with caches that evict."""
    _in_patient_time(_both(scene, "events", Knowledge.EVENTS))


@settings(max_examples=8, phases=_PHASES)
@given(scene=_scenes(_BUSY_GAPS_NS))
def test_a_router_that_knows_only_its_own_choices_decides_as_the_simulator(scene: Scene) -> None:
    """The same where all that is known of a worker is what was sent there."""
    _in_patient_time(_both(scene, "own", Knowledge.OWN))


@settings(max_examples=6, phases=_PHASES)
@given(scene=_scenes(_IDLE_GAPS_NS, LOOKING_POLICIES))
def test_exact_knowledge_is_what_events_tell_between_steps(scene: Scene) -> None:
    """A simulation with exact knowledge agrees too, wherever no step is in flight when a request comes."""
    _in_patient_time(_both(scene, "events", Knowledge.EXACT))


@settings(max_examples=5, phases=_PHASES)
@given(scene=_scenes(_BUSY_GAPS_NS, BLIND_POLICIES))
def test_who_does_not_look_at_caches_decides_the_same_under_exact_knowledge(scene: Scene) -> None:
    """Turns, chance, sessions and counts of requests in flight need no news, so they agree under any load."""
    _in_patient_time(_both(scene, "events", Knowledge.EXACT))
