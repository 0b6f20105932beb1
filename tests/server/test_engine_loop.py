"""The engine loop: whatever the clock, the timeline is the simulator's."""

import asyncio
from collections.abc import Sequence
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_time import run_in_virtual_time

from understudy.engine import Engine, EngineConfig, PauseScope, Request, StepResult, TokenPrompt
from understudy.fleet.worker import NEVER_NS, Worker
from understudy.latency import LinearLatency
from understudy.server.engine_clock import NS_PER_SECOND, EngineClock, FreeClock, ManualClock, ScaledClock
from understudy.server.engine_loop import EngineLoop

LATENCY = LinearLatency(
    prefill_base_seconds=0.005,
    prefill_cached_seconds=0.0005,
    prefill_seconds_per_block=0.0025,
    decode_seconds_per_step=0.015,
    block_size=16,
)
Arrival = tuple[float, int, int]
"""When, in seconds; tokens of the prompt; tokens of the answer."""
Timeline = list[tuple[int | None, int | None, int | None, int | None]]

arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.0199999, 0.0200001, 0.3, 1.5]), st.integers(1, 200), st.integers(1, 12)
    ),
    min_size=1,
    max_size=12,
).map(sorted)


def _config(*, async_scheduling: bool) -> EngineConfig:
    return EngineConfig(
        num_gpu_blocks=40,
        max_model_len=256,
        max_num_seqs=4,
        max_num_batched_tokens=64,
        async_scheduling=async_scheduling,
    )


def _request(number: int, arrival: Arrival) -> Request:
    _, prompt, answer = arrival
    return Request(f"r{number}", TokenPrompt([number % 3] * prompt), answer, serial=number)


def _sample(_request: Request, count: int) -> Sequence[int]:
    return [7] * count


def _engine(config: EngineConfig) -> Engine:
    return Engine(config, LATENCY, sample=_sample)


def _timeline(requests: Sequence[Request]) -> Timeline:
    return [
        (request.queued_ns, request.scheduled_ns, request.first_token_ns, request.last_token_ns)
        for request in requests
    ]


def _simulated(given_arrivals: Sequence[Arrival], config: EngineConfig) -> Timeline:
    worker = Worker(0, config, LATENCY, sample=_sample, hash_seed="s", record_events=False)
    requests = [_request(number, arrival) for number, arrival in enumerate(given_arrivals)]
    for request, (at_seconds, _, _) in zip(requests, given_arrivals, strict=True):
        at_ns = round(at_seconds * NS_PER_SECOND)
        for _ in worker.run_until(at_ns):
            pass
        worker.add(request, at_ns)
    for _ in worker.run_until(NEVER_NS):
        pass
    return _timeline(requests)


async def _served(given_arrivals: Sequence[Arrival], config: EngineConfig, scale: float) -> Timeline:
    loop = asyncio.get_running_loop()
    clock = ScaledClock(loop, scale)
    engines = EngineLoop([_engine(config)], clock, stepped=lambda *_: None, late=lambda _: None)
    requests = [_request(number, arrival) for number, arrival in enumerate(given_arrivals)]
    start = loop.time()

    def arrive(together: Sequence[Request]) -> None:
        for request in together:
            engines.add(0, request)

    pairs = zip(given_arrivals, requests, strict=True)
    for at_seconds, group in groupby(pairs, key=lambda pair: pair[0][0]):
        loop.call_at(start + at_seconds * scale, arrive, [request for _, request in group])
    await asyncio.sleep(1_000)
    assert engines.next_ns is None
    return _timeline(requests)


@settings(deadline=None, max_examples=60)
@given(given_arrivals=arrivals, is_async=st.booleans(), scale=st.sampled_from([1.0, 0.5, 3.0]))
def test_the_timeline_is_the_simulators(
    given_arrivals: list[Arrival], *, is_async: bool, scale: float
) -> None:
    """To the nanosecond, for arrivals between steps, just before and after their end, together, and while all is quiet."""
    config = _config(async_scheduling=is_async)
    served = run_in_virtual_time(_served(given_arrivals, config, scale))
    assert served == _simulated(given_arrivals, config)


def test_lateness_is_told_and_changes_nothing() -> None:
    """A loop that was held up takes the overdue steps as of their planned times, and says how late it was."""
    late: list[float] = []
    config = _config(async_scheduling=True)

    async def main() -> Request:
        loop = asyncio.get_running_loop()
        engines = EngineLoop(
            [_engine(config)], ScaledClock(loop, 1.0), stepped=lambda *_: None, late=late.append
        )
        request = _request(0, (0.0, 16, 8))
        engines.add(0, request)
        await asyncio.sleep(0)
        jumping = loop._jumping  # type: ignore[attr-defined] # the virtual loop's
        jumping.now_seconds += 0.05
        await asyncio.sleep(1)
        return request

    request = run_in_virtual_time(main())
    assert _timeline([request]) == _simulated([(0.0, 16, 8)], config)
    assert max(late) == pytest.approx(0.05 - 0.0075, abs=1e-6)


def test_without_waiting_time_jumps_from_step_to_step() -> None:
    """A time scale of 0 gives the simulator's timeline for what arrives together, whatever the wall clock says."""
    config = _config(async_scheduling=True)
    together = [(0.0, 30, 5), (0.0, 90, 3), (0.0, 10, 9)]

    async def main() -> tuple[Timeline, float]:
        clock = FreeClock()
        engines = EngineLoop([_engine(config)], clock, stepped=lambda *_: None, late=lambda _: None)
        requests = [_request(number, arrival) for number, arrival in enumerate(together)]
        for request in requests:
            engines.add(0, request)
        for _ in range(100):
            await asyncio.sleep(0)
        assert all(request.status.is_finished for request in requests)
        return _timeline(requests), asyncio.get_running_loop().time()

    timeline, loop_seconds = run_in_virtual_time(main())
    assert timeline == _simulated(together, config)
    assert loop_seconds == 0.0


@pytest.mark.parametrize("scope", ["new", "all"])
def test_a_pause_leaves_alone_what_it_is_told(scope: PauseScope) -> None:
    """By "all" nobody goes on once the steps in flight have ended; by "new" only those stay out who wait."""
    config = _config(async_scheduling=False)

    async def main() -> tuple[Request, Request]:
        loop = asyncio.get_running_loop()
        engines = EngineLoop(
            [_engine(config)], ScaledClock(loop, 1.0), stepped=lambda *_: None, late=lambda _: None
        )
        running, waiting = _request(0, (0.0, 16, 4)), _request(1, (0.0, 16, 4))
        engines.add(0, running)
        await asyncio.sleep(0.001)
        engines.set_pause(scope)
        engines.add(0, waiting)
        await asyncio.sleep(5)
        assert engines.next_ns is None
        assert running.status.is_finished is (scope == "new")
        assert running.num_output_tokens == (4 if scope == "new" else 1)
        assert waiting.scheduled_ns is None
        engines.set_pause("none")
        await asyncio.sleep(5)
        return running, waiting

    running, waiting = run_in_virtual_time(main())
    assert running.status.is_finished
    assert waiting.status.is_finished
    assert waiting.scheduled_ns == pytest.approx(5.001 * NS_PER_SECOND, rel=1e-6)


def test_the_earliest_of_several_engines_steps_first() -> None:
    """Ranks share one clock: the times of all steps never go back."""
    times: list[int] = []

    async def main() -> None:
        config = _config(async_scheduling=True)
        clock: EngineClock = FreeClock()

        def stepped(_rank: int, at_ns: int, _result: StepResult) -> None:
            times.append(at_ns)

        engines = EngineLoop([_engine(config) for _ in range(3)], clock, stepped=stepped, late=lambda _: None)
        for number in range(9):
            engines.add(number % 3, _request(number, (0.0, 1 + 13 * number, 1 + number)))
        for _ in range(200):
            await asyncio.sleep(0)
        assert engines.next_ns is None

    run_in_virtual_time(main())
    assert times == sorted(times)
    assert len(times) > 20


def test_a_clock_in_the_hand_moves_only_when_moved() -> None:
    """Nothing happens by itself, and `wake` takes what is due."""

    async def main() -> None:
        clock = ManualClock()
        engines = EngineLoop(
            [_engine(_config(async_scheduling=False))], clock, stepped=lambda *_: None, late=lambda _: None
        )
        request = _request(0, (0.0, 16, 2))
        engines.add(0, request)
        await asyncio.sleep(10)
        assert engines.next_ns == 0
        assert request.queued_ns is None
        engines.wake()
        assert request.scheduled_ns == 0
        first_ns = engines.next_ns
        assert first_ns is not None
        clock.move_to(first_ns - 1)
        engines.wake()
        assert request.first_token_ns is None
        clock.move_to(first_ns)
        engines.wake()
        assert request.first_token_ns == first_ns

    run_in_virtual_time(main())
