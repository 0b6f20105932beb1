"""Sleep and pause: what becomes of requests in work and of those that come, whatever is asked in whatever order."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.routes.fakes import FakeFrontend

from understudy.server.power import MEMORY_TAGS, NotReadyError, PausedError, PauseMode, Power

MODES: tuple[PauseMode, ...] = ("abort", "wait", "keep")


def _run(test: Callable[[FakeFrontend, Power], Awaitable[None]]) -> list[int | None]:
    """Run a test and return the levels of sleep that were told."""
    levels: list[int | None] = []

    async def run() -> None:
        frontend = FakeFrontend()
        await test(frontend, Power(frontend, levels.append))

    asyncio.run(run())
    return levels


def _accepts(power: Power) -> bool:
    try:
        power.check_accepts()
    except PausedError as error:
        assert str(error) == "Generation is paused. Please retry after it resumes."  # noqa: PT017 # the text matters
        return False
    return True


@pytest.mark.parametrize("sleeps", [False, True])
def test_abort_ends_what_is_in_work(sleeps: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """Running and waiting requests end; the pause is complete at once, and the cache is forgotten."""

    async def check(frontend: FakeFrontend, power: Power) -> None:
        frontend.running, frontend.waiting = ["a"], ["b"]
        await (power.sleep(1, "abort") if sleeps else power.pause("abort"))
        assert frontend.aborted == ["a", "b"]
        assert frontend.resets == [True]
        assert power.is_paused
        assert _accepts(power) is sleeps

    assert _run(check) == ([1] if sleeps else [])


@pytest.mark.parametrize("sleeps", [False, True])
def test_wait_lets_what_runs_finish(sleeps: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """Nothing ends early and nothing new starts; the pause is complete, and the memory gone, when the last has finished."""

    async def check(frontend: FakeFrontend, power: Power) -> None:
        frontend.running = ["a"]
        pausing = asyncio.create_task(power.sleep(2, "wait") if sleeps else power.pause("wait"))
        await asyncio.sleep(0)
        assert power.is_paused
        assert _accepts(power) is sleeps
        frontend.add("b")
        await asyncio.sleep(0)
        assert not pausing.done()
        assert not frontend.resets
        with pytest.raises(NotReadyError, match="requires a completed pause first"):
            power.release_kv_cache_memory()
        frontend.finish_running()
        await pausing
        assert frontend.waiting == ["b"]
        assert not frontend.aborted
        assert power.wake_up()
        assert frontend.running == ["b"]

    assert _run(check) == ([2, None] if sleeps else [None])


@pytest.mark.parametrize("sleeps", [False, True])
def test_keep_freezes_what_is_there(sleeps: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """Requests stay, those that come wait with them, and all go on in the end."""

    async def check(frontend: FakeFrontend, power: Power) -> None:
        frontend.running = ["a"]
        await (power.sleep(1, "keep") if sleeps else power.pause("keep"))
        assert frontend.scope == "all"
        assert _accepts(power)
        frontend.add("b")
        assert power.wake_up()
        assert frontend.running == ["a", "b"]
        assert not frontend.aborted

    _run(check)


def test_a_pause_that_is_ended_early_completes_when_the_engines_idle() -> None:
    """`resume` while "wait" waits lets requests in again; the one who asked for the pause is answered at the end."""

    async def check(frontend: FakeFrontend, power: Power) -> None:
        frontend.running = ["a"]
        pausing = asyncio.create_task(power.pause("wait"))
        await asyncio.sleep(0)
        power.resume()
        await asyncio.sleep(0)
        assert not pausing.done()
        assert _accepts(power)
        frontend.finish_running()
        await pausing
        assert not power.is_paused

    _run(check)


def test_the_cache_survives_where_it_should() -> None:
    """Level 0, and a pause that is told not to clear it."""

    async def check(frontend: FakeFrontend, power: Power) -> None:
        await power.sleep(0)
        power.resume()
        await power.pause("keep", clear_cache=False)
        assert not frontend.resets

    _run(check)


_STEPS = st.one_of(
    st.tuples(st.just("pause"), st.sampled_from(MODES)),
    st.tuples(st.just("sleep"), st.integers(0, 2), st.sampled_from(MODES)),
    st.tuples(st.just("resume")),
    st.tuples(st.just("release")),
    st.tuples(
        st.just("wake"),
        st.none() | st.lists(st.sampled_from([*sorted(MEMORY_TAGS), "scheduling", "other"]), max_size=3),
    ),
)


async def _take(power: Power, step: tuple[object, ...]) -> None:
    match step:
        case ("pause", "abort" | "wait" | "keep" as mode):
            await power.pause(mode)
        case ("sleep", int() as level, "abort" | "wait" | "keep" as mode):
            await power.sleep(level, mode)
        case ("resume",):
            power.resume()
        case ("release",):
            try:
                power.release_kv_cache_memory()
            except NotReadyError:
                assert not power.is_paused or power.is_sleeping
        case ("wake", tags):
            assert tags is None or isinstance(tags, list)
            power.wake_up(tags)


@given(st.lists(_STEPS, max_size=12))
def test_whatever_was_asked_waking_up_lets_everything_go_on(steps: list[tuple[object, ...]]) -> None:
    """A pause is a scope, turning away is a pause, pausing is sleeping; and no request is lost but by "abort"."""

    async def check(frontend: FakeFrontend, power: Power) -> None:
        for number, step in enumerate(steps):
            if _accepts(power):
                frontend.add(str(number))
            if step[-1] == "wait":
                frontend.finish_running()
            aborted_before = len(frontend.aborted)
            await _take(power, step)
            assert power.is_paused is (frontend.scope != "none")
            assert power.is_paused or _accepts(power)
            assert power.is_sleeping or not power.is_paused
            assert step[-1] == "abort" or len(frontend.aborted) == aborted_before
        assert power.wake_up()
        assert not power.is_sleeping
        assert _accepts(power)
        assert not frontend.waiting

    assert _run(check)[-1] is None
