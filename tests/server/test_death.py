"""How long the server of a dead engine goes on."""

import asyncio

import pytest
from tests.server.serving import serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.errors import UsageError
from understudy.server.death import WATCHDOG_SECONDS, EngineDeath, outlives_its_engine
from understudy.server.faults import Crash, FaultPlan


async def _end_seconds(death: EngineDeath) -> float:
    await death.wait_for_end()
    return asyncio.get_running_loop().time()


def test_it_ends_soon_and_at_once_when_somebody_has_been_refused() -> None:
    """Answers of other statuses, and all before its death, end nothing."""

    async def main(*, is_refused: bool) -> float:
        death = EngineDeath()
        end = asyncio.create_task(_end_seconds(death))
        death.answered(500)
        await asyncio.sleep(100)
        death.happened()
        assert death.has_happened
        await asyncio.sleep(1)
        for status in (200, 404, 503):
            death.answered(status)
        await asyncio.sleep(1)
        assert not end.done()
        if is_refused:
            death.answered(500)
        return await end - 100

    assert run_in_virtual_time(main(is_refused=False)) == WATCHDOG_SECONDS == 5
    assert run_in_virtual_time(main(is_refused=True)) == 2


def test_health_ends_nothing_and_a_refused_request_does() -> None:
    """As clients of a server see it; a crash by a fault is no death."""

    async def main() -> None:
        async with serving(may_fail=True) as server:
            worker = server.worker
            worker.faults.plan = FaultPlan(faults=(Crash(for_seconds=0),))
            worker.crash()
            assert not worker.death.has_happened

        async with serving(may_fail=True) as server:
            end = asyncio.create_task(_end_seconds(server.worker.death))
            server.worker.frontend._engine_failed(ZeroDivisionError())
            assert (await server.get("/health")).status == 503
            assert (await server.get("/metrics")).status == 200
            await asyncio.sleep(1)
            assert not end.done()
            asked_seconds = asyncio.get_running_loop().time()
            assert (await server.complete(prompt="Hello", stream=True)).status == 500
            assert await end == pytest.approx(asked_seconds, abs=0.1)

    run_in_virtual_time(main())


@pytest.mark.parametrize(("value", "outlives"), [("0", False), ("1", True), (" 2 ", True)])
def test_a_variable_keeps_the_server_alive(value: str, outlives: bool) -> None:  # noqa: FBT001 # a parameter
    """VLLM_KEEP_ALIVE_ON_ENGINE_DEATH, a number."""
    variable = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"
    assert outlives_its_engine({variable: value}) is outlives
    assert not outlives_its_engine({})
    with pytest.raises(UsageError, match=f"{variable} must be 0 or 1, got 'yes'"):
        outlives_its_engine({variable: "yes"})
