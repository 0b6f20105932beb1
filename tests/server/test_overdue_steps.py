"""A process that was held up for long catches up, and nothing gets in before its time."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.virtual_time import run_in_virtual_time

from understudy.engine import Engine, EngineConfig, Request, TokenPrompt
from understudy.fleet.worker import NEVER_NS, Worker
from understudy.latency import LinearLatency
from understudy.server.engine_clock import NS_PER_SECOND, ManualClock, ScaledClock
from understudy.server.engine_loop import MAX_STEPS_AT_ONCE, EngineLoop

LATENCY = LinearLatency(
    prefill_base_seconds=0.005,
    prefill_cached_seconds=0.0005,
    prefill_seconds_per_block=0.0025,
    decode_seconds_per_step=0.001,
)
CONFIG = EngineConfig(num_gpu_blocks=60, max_model_len=512, max_num_seqs=4, max_num_batched_tokens=64)
RUNNING_TOKENS = 400
Times = tuple[int | None, int | None, int | None, int | None]


def _sample(_request: Request, count: int) -> Sequence[int]:
    return [7] * count


def _engine() -> Engine:
    return Engine(CONFIG, LATENCY, sample=_sample)


def _request(number: int, tokens: int) -> Request:
    return Request(f"r{number}", TokenPrompt([number] * 16), tokens, serial=number)


def _times(request: Request) -> Times:
    return request.queued_ns, request.scheduled_ns, request.first_token_ns, request.last_token_ns


def _simulated(late_ns: int, tokens: int) -> list[Times]:
    worker = Worker(0, CONFIG, LATENCY, sample=_sample, hash_seed="s", record_events=False)
    running, late = _request(0, RUNNING_TOKENS), _request(1, tokens)
    worker.add(running, 0)
    for _ in worker.run_until(late_ns):
        pass
    worker.add(late, late_ns)
    for _ in worker.run_until(NEVER_NS):
        pass
    return [_times(running), _times(late)]


@settings(max_examples=10)
@given(held_up_seconds=st.floats(0.001, 0.9), tokens=st.integers(1, 20))
def test_what_comes_after_a_hold_up_gets_in_after_it(held_up_seconds: float, tokens: int) -> None:
    """However many steps are overdue when a request arrives, all of them come first, as of their planned times."""

    async def main() -> tuple[list[Times], int]:
        loop = asyncio.get_running_loop()
        clock = ScaledClock(loop, 1.0)
        engines = EngineLoop([_engine()], clock, stepped=lambda *_: None, late=lambda _: None)
        running, late = _request(0, RUNNING_TOKENS), _request(1, tokens)
        engines.add(0, running)
        await asyncio.sleep(0)
        loop._jumping.now_seconds += held_up_seconds  # type: ignore[attr-defined] # the virtual loop's
        engines.add(0, late)
        late_ns = clock.now_ns()
        await asyncio.sleep(10)
        assert engines.is_idle
        return [_times(running), _times(late)], late_ns

    served, late_ns = run_in_virtual_time(main())
    assert served == _simulated(late_ns, tokens)


def test_an_abort_behind_its_request_finds_it() -> None:
    """A client that comes and leaves while the process catches up leaves nothing behind."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = ScaledClock(loop, 1.0)
        engines = EngineLoop([_engine()], clock, stepped=lambda *_: None, late=lambda _: None)
        running, gone = _request(0, RUNNING_TOKENS), _request(1, 20)
        engines.add(0, running)
        await asyncio.sleep(0)
        loop._jumping.now_seconds += 0.3  # type: ignore[attr-defined] # the virtual loop's
        engines.add(0, gone)
        assert not engines.is_idle
        engines.abort(0, gone.request_id)
        await asyncio.sleep(10)
        assert running.num_output_tokens == RUNNING_TOKENS
        assert gone.num_output_tokens == 0
        assert not engines.engines[0].scheduler.has_requests

    run_in_virtual_time(main())


def test_waking_takes_all_that_is_due() -> None:
    """A clock that jumps far by hand brings everything that was planned up to then, however many steps that are."""

    async def main() -> None:
        clock = ManualClock()
        engines = EngineLoop([_engine()], clock, stepped=lambda *_: None, late=lambda _: None)
        request = _request(0, 10 * MAX_STEPS_AT_ONCE)
        engines.add(0, request)
        engines.wake()
        clock.move_to(100 * NS_PER_SECOND)
        engines.wake()
        assert request.status.is_finished
        assert engines.is_idle

    run_in_virtual_time(main())
