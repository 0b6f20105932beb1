"""Laws of what is known of a worker by its events: after quiet it is what the worker holds, whatever went wrong."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import pytest
from tests.gateway.kv_events.hearing import Heard, hearing, really_held
from tests.server.serving import Served, serving, until

from understudy.engine import AllBlocksCleared
from understudy.gateway.kv_events import EventSubscriber
from understudy.gateway.kv_lists import ask_kv_blocks
from understudy.gateway.source_state import SourceState
from understudy.gateway.worker_http import NoAnswerError, WorkerHttp
from understudy.server.application import application
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.faults import Crash, Events, FaultPlan
from understudy.wire.kv_blocks import BlockList, BlockListError

FLAGS = (
    "--max-model-len", "256", "--max-num-seqs", "8", "--num-gpu-blocks-override", "60", "--block-size", "16",
    "--time-scale", "0.01",
)  # fmt: skip
LISTS = ("--enable-kv-blocks-endpoint",)
ALL_WRONG = Events(lose=0.2, delay=0.2, delay_seconds=0.02, duplicate=0.3, reorder=0.3)

Test = Callable[[Served, EventSubscriber, Heard], Awaitable[None]]


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let publishers bind any port of the loopback interface."""
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.1")


def events_flag(*, replays: bool = True, **fields: Any) -> tuple[str, str]:
    """Return the flag that lets a worker publish."""
    config = {"enable_kv_cache_events": True, "endpoint": "tcp://*:0"} | fields
    if replays:
        config["replay_endpoint"] = "tcp://127.0.0.1:0"
    return "--kv-events-config", json.dumps(config)


def run(
    test: Test,
    *flags: str,
    faults: FaultPlan | None = None,
    events: Sequence[str] | None = None,
    **router: Any,
) -> None:
    """Run a test with a worker of these flags and a router that hears it."""

    async def main() -> None:
        given = events_flag() if events is None else events
        async with (
            serving(*FLAGS, *given, *flags, faults=faults, may_fail=True) as server,
            hearing(server.url, **router) as (subscriber, heard),
        ):
            await test(server, subscriber, heard)

    asyncio.run(main())


async def work(server: Served, count: int = 40, seed: int = 0) -> None:
    """Let a worker answer prompts with common prefixes, more than its cache can hold."""
    random = Random(seed)
    stems = [[random.randrange(300, 900)] * 64 for _ in range(6)]
    for _ in range(count):
        prompt = random.choice(stems)[: random.randrange(20, 64)] + [random.randrange(300, 900)] * 40
        await server.complete(prompt=prompt, max_tokens=20)


def all_is_known(server: Served, subscriber: EventSubscriber, heard: Heard) -> bool:
    """Whether the router knows what the worker holds, and that it does."""
    return subscriber.figures.is_complete and heard.held == really_held(server)


def test_what_is_heard_is_what_is_held() -> None:
    """From the first block on, with evictions; nothing was missed, and nothing had to be asked for twice."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await until(lambda: subscriber.figures.is_complete)
        await work(server)
        await until(lambda: all_is_known(server, subscriber, heard))
        assert heard.held
        figures = subscriber.figures
        assert figures.is_connected
        assert figures.num_batches > 0
        assert (figures.num_losses, figures.num_restarts, figures.num_unreadable) == (0, 0, 0)
        assert heard.states == [(SourceState.FOLLOWED, None)]

    run(test)


@pytest.mark.parametrize(("replays", "lists"), [(True, False), (False, True), (True, True)])
def test_a_router_that_comes_late_catches_up(*, replays: bool, lists: bool) -> None:
    """By a replay from the first batch, or by a list of all blocks."""

    async def main() -> None:
        async with serving(*FLAGS, *events_flag(replays=replays), *(LISTS if lists else ())) as server:
            await work(server)
            async with hearing(server.url) as (subscriber, heard):
                await until(lambda: all_is_known(server, subscriber, heard))
                assert heard.num_synchronised == (0 if replays else 1)

    asyncio.run(main())


def test_a_router_that_comes_too_late_knows_a_part() -> None:
    """Where the first batches are not kept any more and there is no list; a cleared cache is known again."""

    async def main() -> None:
        async with serving(*FLAGS, *events_flag(buffer_steps=3)) as server:
            await work(server)
            async with hearing(server.url) as (subscriber, heard):
                await until(lambda: subscriber.figures.num_losses > 0)
                await work(server, seed=1)
                await until(lambda: bool(heard.held) and heard.held <= really_held(server))
                assert not subscriber.figures.is_complete

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("replays", "lists"), [(True, False), (False, True), (True, True)])
def test_lost_late_doubled_and_swapped_batches_do_no_harm(*, seed: int, replays: bool, lists: bool) -> None:
    """Once all is quiet everything is known, with a replay or a list to ask for."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await until(lambda: subscriber.figures.is_complete)
        for part in range(3):
            await work(server, 20, seed=part)
            await until(lambda: all_is_known(server, subscriber, heard))
        assert subscriber.figures.num_gaps > 0
        assert subscriber.figures.num_restarts == 0

    run(
        test,
        *(LISTS if lists else ()),
        faults=FaultPlan(seed=seed, faults=(ALL_WRONG,)),
        events=events_flag(replays=replays),
    )


def test_without_replay_and_list_what_is_missed_is_forgotten() -> None:
    """What is known is then a part of what is held, or what the last batches, which nobody knows of, have made of it."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await until(lambda: heard.state is SourceState.FOLLOWED and subscriber.figures.is_connected)
        await work(server)
        server.worker.faults.plan = FaultPlan()
        await work(server, seed=1)
        assert subscriber.figures.num_losses > 0
        await until(lambda: heard.held <= really_held(server))

    run(
        test,
        faults=FaultPlan(faults=(Events(lose=0.3),)),
        events=events_flag(replays=False),
    )


@pytest.mark.parametrize("lists", [False, True])
def test_a_crash_is_a_new_life(*, lists: bool) -> None:
    """Its numbers start over on connections that hold; what the worker held before is forgotten, and all after is known."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        async with FaultTimetable(server.worker, server.running, application) as timetable:
            await work(server)
            await until(lambda: all_is_known(server, subscriber, heard) and bool(heard.held))
            now_seconds = server.worker.clock.now_ns() / 1e9
            crash = Crash(at_seconds=now_seconds, for_seconds=10)
            server.worker.faults.plan = FaultPlan(faults=(crash,))
            await timetable.look()
            await until(lambda: not server.running.is_accepting)
            await until(lambda: server.running.is_accepting)
            assert not really_held(server)
            await until(lambda: all_is_known(server, subscriber, heard))
            await work(server, 5)
            await until(lambda: all_is_known(server, subscriber, heard) and bool(heard.held))
            assert heard.states == [(SourceState.FOLLOWED, None)]

    run(test, *(LISTS if lists else ()))


def test_ranks_are_heard_together() -> None:
    """What a worker holds is what its ranks hold; a rank that is reset takes nothing from the others."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await asyncio.gather(*(work(server, 10, seed) for seed in range(3)))
        await until(lambda: all_is_known(server, subscriber, heard))
        engines = server.worker.frontend.loop.engines
        assert all(engine.scheduler.kv_cache.pool.cached_hashes() for engine in engines)
        assert engines[0].reset_prefix_cache()
        await asyncio.gather(*(work(server, 5, seed) for seed in range(4)))
        await until(lambda: all_is_known(server, subscriber, heard))

    run(test, "--data-parallel-size", "2", *LISTS, faults=FaultPlan(faults=(ALL_WRONG,)))


@pytest.mark.parametrize("environment", [{}, {"VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES": "0"}])
def test_a_topic_and_whole_hashes_change_nothing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are the same."""
    monkeypatch.setattr("tests.server.serving.settings_of", _settings_with(environment))

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await work(server, 5)
        await until(lambda: all_is_known(server, subscriber, heard) and bool(heard.held))

    run(test, events=events_flag(topic="kv@pod"))


def _settings_with(environment: dict[str, str]) -> Callable[..., Any]:
    from understudy.server.settings import settings_of  # noqa: PLC0415 - the one that is replaced

    return lambda arguments, _environment: settings_of(arguments, environment)


def test_other_hashes_are_told_and_not_taken() -> None:
    """With what would fit; nothing of the worker is known."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await work(server, 3)
        await until(lambda: heard.state is SourceState.DIFFERS)
        await work(server, 3)
        await until(lambda: subscriber.figures.is_complete)
        assert heard.states[-1][1] == "hashes blocks otherwise: --prefix-caching-hash-algo sha256 would fit"
        assert not heard.held

    run(test, algorithm="sha256_cbor")


def test_a_worker_without_events_says_so() -> None:
    """And is asked again, for it may be started with them."""

    async def test(_server: Served, _subscriber: EventSubscriber, heard: Heard) -> None:
        await until(lambda: heard.state is SourceState.ABSENT)
        assert "publishes no KV events" in str(heard.states[-1][1])

    run(test, events=())


def test_a_list_tells_of_the_step_in_flight_only_once() -> None:
    """Blocks that a step has cached and not yet reported are in the list, and its events do not count them again."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await until(lambda: heard.state is SourceState.FOLLOWED)
        working = asyncio.create_task(work(server, 30))
        while not working.done():
            subscriber.verify()
            await asyncio.sleep(0.005)
        await working
        await until(lambda: all_is_known(server, subscriber, heard))
        assert heard.num_synchronised > 1

    run(test, *LISTS, events=events_flag(replays=False))


def test_a_reset_is_heard() -> None:
    """All blocks are gone."""

    async def test(server: Served, subscriber: EventSubscriber, heard: Heard) -> None:
        await work(server, 5)
        await until(lambda: all_is_known(server, subscriber, heard) and bool(heard.held))
        server.worker.publishers[0].publish(0.0, [AllBlocksCleared()])
        await until(lambda: heard.held == Counter())

    run(test)


def test_a_list_that_fails_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one comes, what is known is a part."""
    answers = [NoAnswerError("does not answer"), BlockListError("malformed")]

    async def failing_at_first(http: WorkerHttp, max_blocks: int) -> BlockList | None:
        if answers:
            raise answers.pop()
        return await ask_kv_blocks(http, max_blocks)

    monkeypatch.setattr("understudy.gateway.kv_events.subscriber.ask_kv_blocks", failing_at_first)

    async def main() -> None:
        async with serving(*FLAGS, *events_flag(replays=False), *LISTS) as server:
            await work(server, 3)
            async with hearing(server.url) as (subscriber, heard):
                await until(lambda: subscriber.figures.num_losses > 0)
                assert not subscriber.figures.is_complete
                await until(lambda: all_is_known(server, subscriber, heard))
                assert not answers

    asyncio.run(main())
