"""Faults at `--time-scale 0`: the engine's clock moves only with work, and no fault lasts for ever because it keeps work away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.serving import Reply, Served, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.application import application
from understudy.server.engine_clock import NS_PER_SECOND, FreeClock
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.faults import (
    Crash,
    Fault,
    FaultPlan,
    FreezeMetrics,
    HttpError,
    Refuse,
    Slow,
    Stall,
)

FLAGS = ("--max-model-len", "4096", "--max-num-seqs", "8", "--decode-seconds-per-step", "0.01")
BODY: dict[str, Any] = {"prompt": [300] * 20, "max_tokens": 8}
LOOK_SECONDS = 0.05
"""Within so many seconds a fault of the whole server begins and ends after it is due."""


def _serve(test: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            serving(*FLAGS, clock=FreeClock()) as server,
            FaultTimetable(server.worker, server.running, application),
        ):
            await test(server)
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()

    run_in_virtual_time(main())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _engine_seconds(server: Served) -> float:
    return server.worker.clock.now_ns() / NS_PER_SECOND


def _set(server: Served, *faults: Fault) -> None:
    server.worker.faults.plan = FaultPlan(faults=faults)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of most conditions no event tells
            await asyncio.sleep(0.01)


def _is_whole(reply: Reply) -> bool:
    finished: str | None = reply.events[-1]["choices"][0]["finish_reason"]
    return reply.ends_with_done and finished == "length"


async def _until_refused(server: Served) -> None:
    await _until(lambda: not server.running.is_accepting)
    with pytest.raises(ConnectionRefusedError):
        await server.open("/v1/completions", BODY)


async def _until_served(server: Served) -> None:
    await _until(lambda: server.running.is_accepting)
    assert (await server.complete(**BODY)).status == 200


@pytest.mark.parametrize("fault", [Refuse(for_seconds=2), Crash(for_seconds=2)])
def test_refused_connections_are_accepted_again_when_the_seconds_have_passed(fault: Fault) -> None:
    """By the clock of whoever waits to connect; what was cached before a crash is gone."""

    async def test(server: Served) -> None:
        await server.complete(prompt=[300] * 100, max_tokens=1)
        _set(server, fault)
        start_seconds = _now()
        await _until_refused(server)
        await _until(lambda: server.running.is_accepting)
        assert _now() - start_seconds == pytest.approx(2, abs=LOOK_SECONDS)
        await server.complete(prompt=[300] * 100, max_tokens=1)
        hits = (await server.metrics()).total("vllm:prefix_cache_hits_total")
        assert hits == (0 if isinstance(fault, Crash) else 96)

    _serve(test)


def test_work_that_is_left_does_not_shorten_a_refusal() -> None:
    """A stream takes the engine far beyond the end of the fault in no time, and nobody new gets in before it is over."""

    async def test(server: Served) -> None:
        stream = await server.open("/v1/completions", BODY | {"max_tokens": 2000, "stream": True})
        await stream.events(1)
        _set(server, Refuse(for_seconds=2))
        start_seconds = _now()
        await _until_refused(server)
        assert b"[DONE]" in await stream.rest()
        assert _engine_seconds(server) > 15
        assert _now() - start_seconds < 1.5
        await _until_refused(server)
        await _until_served(server)
        assert _now() - start_seconds == pytest.approx(2, abs=LOOK_SECONDS)

    _serve(test)


@pytest.mark.parametrize("kind", [Refuse, Crash])
def test_it_begins_when_work_has_taken_the_engine_so_far(kind: type[Refuse | Crash]) -> None:
    """Even if the engine has leapt over its end by then; idle, it waits for ever."""

    async def test(server: Served) -> None:
        _set(server, kind(at_seconds=1, for_seconds=0.5))
        await asyncio.sleep(2)
        assert (await server.complete(**BODY)).status == 200
        stream = await server.open("/v1/completions", BODY | {"max_tokens": 2000, "stream": True})
        await _until_refused(server)
        assert (b"[DONE]" in await stream.rest()) is (kind is Refuse)
        await _until_served(server)
        await asyncio.sleep(1)
        await _until_served(server)

    _serve(test)


def test_a_window_that_work_has_passed_when_it_is_set_does_nothing() -> None:
    """As by any other clock."""

    async def test(server: Served) -> None:
        await server.complete(**BODY | {"max_tokens": 500})
        assert _engine_seconds(server) > 4
        _set(server, Refuse(at_seconds=1, for_seconds=2), Crash(at_seconds=1, for_seconds=2))
        for _ in range(10):
            await asyncio.sleep(LOOK_SECONDS)
            assert server.running.is_accepting

    _serve(test)


def test_an_error_for_everybody_ends() -> None:
    """Though nobody's work moves the engine's clock."""

    async def test(server: Served) -> None:
        _set(server, HttpError(for_seconds=2))
        start_seconds = _now()
        status = 500
        async with asyncio.timeout(10):
            while status == 500:
                await asyncio.sleep(0.01)
                status = (await server.complete(**BODY)).status
        assert _now() - start_seconds == pytest.approx(2, abs=LOOK_SECONDS)

    _serve(test)


def test_what_lets_work_through_ends_by_either_clock() -> None:
    """With work by the engine's, exactly; without by the other."""

    async def test(server: Served) -> None:
        faults = server.worker.faults
        for with_work in (True, False):
            _set(server, Slow(for_seconds=2), FreezeMetrics(for_seconds=2))
            assert (faults.slow_factor(), faults.metrics_are_frozen()) == (2, True)
            if with_work:
                start_seconds = _now()
                await server.complete(**BODY | {"max_tokens": 200})
                assert _now() - start_seconds < 1
            else:
                await asyncio.sleep(2 - LOOK_SECONDS)
                assert faults.metrics_are_frozen()
                await asyncio.sleep(2 * LOOK_SECONDS)
            assert (faults.slow_factor(), faults.metrics_are_frozen()) == (1, False)

    _serve(test)


def test_a_fault_that_stays_in_the_plan_goes_on() -> None:
    """A plan that is replaced by itself and more does not begin anew."""

    async def test(server: Served) -> None:
        _set(server, Refuse(for_seconds=2))
        start_seconds = _now()
        await _until_refused(server)
        await asyncio.sleep(1)
        plan = server.worker.faults.plan
        server.worker.faults.plan = FaultPlan(faults=(*plan.faults, Slow()))
        await _until(lambda: server.running.is_accepting)
        assert _now() - start_seconds == pytest.approx(2, abs=LOOK_SECONDS)

    _serve(test)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_stall_takes_its_seconds(is_streamed: bool) -> None:  # noqa: FBT001 # a parameter
    """By the clock of the client if nobody else's work moves the engine's, and then nothing is missing."""

    async def test(server: Served) -> None:
        _set(server, Stall(after_tokens=3, stall_seconds=2))
        start_seconds = _now()
        reply = await server.complete(**BODY, stream=is_streamed)
        assert _now() - start_seconds == pytest.approx(2, abs=LOOK_SECONDS)
        assert _is_whole(reply) if is_streamed else reply.json["usage"]["completion_tokens"] == 8

    _serve(test)


def test_the_work_of_others_ends_a_stall() -> None:
    """When it has taken the engine beyond the stall's seconds, however soon that is."""

    async def test(server: Served) -> None:
        _set(server, Stall(after_tokens=3, stall_seconds=2))
        stalled = asyncio.create_task(server.complete(**BODY, stream=True))
        await _until(lambda: _engine_seconds(server) > 0)
        await server.worker.frontend.idle()
        assert not stalled.done()
        server.worker.faults.plan = FaultPlan()
        start_seconds = _now()
        await server.complete(**BODY | {"max_tokens": 600})
        assert _is_whole(await stalled)
        assert _now() - start_seconds < 1.5

    _serve(test)
