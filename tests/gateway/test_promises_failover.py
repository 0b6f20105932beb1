"""Workers that die, idle or at work, that fail and come back: what clients see of it, and who gets requests meanwhile."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import pytest
from tests.gateway.fake_worker import Answer, Asked, FakeWorker, says, working
from tests.gateway.playing_vllm import NO_PAGE, answer_bytes, completions, streams, with_pages
from tests.gateway.promised import Verdict, ask, assert_at_rest, promised, use_loop_time, verdicts
from tests.gateway.routed import Routed, route_to
from tests.support.faulty import FaultyLink, faulty_link
from tests.support.virtual_time import run_in_virtual_time

from understudy.routing import Health

LONG_PROMPT = "the same long prompt again and again " * 40
ERROR = answer_bytes(500, b'{"error": {"message": "mine"}}')
NUM_STREAMS = 500


@asynccontextmanager
async def linked(
    num_workers: int, pause_seconds: float = 0.0
) -> AsyncIterator[tuple[Routed, list[FakeWorker], list[FaultyLink]]]:
    """Run a router whose workers are behind links that can go down."""
    async with AsyncExitStack() as stack:
        workers = await stack.enter_async_context(working(*(says(NO_PAGE) for _ in range(num_workers))))
        links = []
        for worker in workers:
            worker.answer = with_pages(streams(pause_seconds)(worker))
            links.append(await stack.enter_async_context(faulty_link(worker.port)))
        urls = tuple(link.url for link in links)
        routed = await stack.enter_async_context(route_to((), worker=urls, knowledge="own"))
        use_loop_time(routed)
        await routed.ready(num_workers)
        yield routed, workers, links
        assert_at_rest(routed)


@pytest.mark.parametrize("num_dying", [1, 4, 7])
def test_streams_of_workers_that_die_are_told_so(num_dying: int) -> None:
    """Of 500 streams over 8 workers, k of which die: each ends whole or by an error, within 2 s, and its tokens are of one worker."""

    async def scenario() -> None:
        async with linked(8, pause_seconds=1.0) as (routed, workers, links):
            names = (f"{number} {LONG_PROMPT}" for number in range(NUM_STREAMS))
            asking = [
                asyncio.create_task(ask(routed.session, routed.url, str(number), prompt))
                for number, prompt in enumerate(names)
            ]
            await asyncio.sleep(2.5)
            dying = {str(worker.port) for worker in workers[:num_dying]}
            for link in links[:num_dying]:
                link.down()
            await asyncio.sleep(2.0)
            told = [task for task in asking if task.done()]
            on_dying = sum(len(completions(worker)) for worker in workers[:num_dying])
            assert len(told) == on_dying
            endings = await asyncio.gather(*asking)
            assert verdicts(endings) == {Verdict.TOLD: on_dying, Verdict.COMPLETE: NUM_STREAMS - on_dying}
            for ending in endings:
                assert (ending.tokens[0][0] in dying) == (ending.verdict() is Verdict.TOLD)
            ids = Counter(
                asked.values("X-Request-Id")[0] for worker in workers for asked in completions(worker)
            )
            assert set(ids.values()) == {1}

    run_in_virtual_time(scenario())


def test_a_worker_that_dies_idle_costs_nobody_anything() -> None:
    """Forty requests, one after another, for which that worker had the cache: no error, and no time but that of the answers."""

    async def scenario() -> None:
        async with linked(3) as (routed, workers, links):
            for number in range(6):
                await ask(routed.session, routed.url, f"warm {number}", LONG_PROMPT)
            (home,) = [number for number, worker in enumerate(workers) if completions(worker)]
            links[home].down()
            start_seconds = asyncio.get_running_loop().time()
            endings = [
                await ask(routed.session, routed.url, str(number), LONG_PROMPT) for number in range(40)
            ]
            assert verdicts(endings) == {Verdict.COMPLETE: 40}
            assert asyncio.get_running_loop().time() - start_seconds < 1.0
            assert len(completions(workers[home])) == 6

    run_in_virtual_time(scenario())


def test_prompts_of_their_own_spread_and_equal_ones_stay_together() -> None:
    """Forty unique prompts, one after another, over two idle workers go to both; forty equal ones to one."""

    async def scenario() -> tuple[list[int], list[int]]:
        async with promised(streams(), streams()) as (routed, workers):
            for number in range(40):
                await ask(routed.session, routed.url, str(number), f"{number} {LONG_PROMPT}")
            unique = [len(completions(worker)) for worker in workers]
            for number in range(40):
                await ask(routed.session, routed.url, str(number), LONG_PROMPT)
            return unique, [
                len(completions(worker)) - before for worker, before in zip(workers, unique, strict=True)
            ]

    unique, equal = run_in_virtual_time(scenario())
    assert min(unique) >= 10
    assert sorted(equal) == [0, 40]


def test_five_errors_in_a_row_eject_a_worker_for_its_time() -> None:
    """Within one request; it is readmitted after 30 s, and ejected for 60 s if it has not become better."""

    def failing(_worker: FakeWorker) -> Answer:
        return says(ERROR)

    async def scenario() -> None:
        async with promised(failing, streams(), streams()) as (routed, (bad, *_)):
            fleet, numbers = routed.router.fleet, count()
            member = fleet[bad.url]

            async def ask_until_it_has(num_requests: int) -> None:
                while len(completions(bad)) < num_requests:
                    await ask(routed.session, routed.url, "r", f"{next(numbers)} {LONG_PROMPT}")

            await ask_until_it_has(4)
            assert fleet.health_of(member) is Health.HEALTHY
            for num_errors, ejected_seconds in ((5, 30), (10, 60)):
                await ask_until_it_has(num_errors)
                assert fleet.health_of(member) is Health.EJECTED
                await asyncio.sleep(ejected_seconds - 1)
                for _ in range(20):
                    ending = await ask(routed.session, routed.url, "r", f"{next(numbers)} {LONG_PROMPT}")
                    assert ending.verdict() is Verdict.COMPLETE
                assert len(completions(bad)) == num_errors
                await asyncio.sleep(1.5)
                assert fleet.health_of(member) is Health.HEALTHY

    run_in_virtual_time(scenario())


def test_at_most_half_of_the_workers_are_ejected() -> None:
    """Where all fail, half of them still get requests, and are ready at once when they are well again."""
    is_well = False

    def failing(worker: FakeWorker) -> Answer:
        well = streams()(worker)

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await (well if is_well else says(ERROR))(asked, writer)

        return answer

    async def scenario() -> None:
        nonlocal is_well
        async with promised(*[failing] * 4) as (routed, _):
            fleet = routed.router.fleet
            for number in range(100):
                ending = await ask(routed.session, routed.url, "r", f"{number} {LONG_PROMPT}")
                assert ending.status == 500
            assert [fleet.health_of(member) for member in fleet].count(Health.EJECTED) >= 2
            assert len(fleet.view(None)[0]) == 2
            is_well = True
            endings = [
                await ask(routed.session, routed.url, "r", f"{number} x {LONG_PROMPT}")
                for number in range(20)
            ]
            assert verdicts(endings) == {Verdict.COMPLETE: 20}

    run_in_virtual_time(scenario())


def test_workers_that_leave_one_after_another_under_load_fail_nobody() -> None:
    """Each is drained, restarted and added again, while requests come all the time: none fails."""

    async def scenario() -> None:
        async with linked(3, pause_seconds=0.2) as (routed, workers, links):
            router = routed.router
            asking: list[asyncio.Task[object]] = []

            async def load() -> None:
                while True:
                    number = len(asking)
                    asking.append(
                        asyncio.create_task(
                            ask(routed.session, routed.url, str(number), f"{number} {LONG_PROMPT}")
                        )
                    )
                    await asyncio.sleep(0.05)

            loading = asyncio.create_task(load())
            await asyncio.sleep(1)
            for worker, link in zip(workers, links, strict=True):
                router.fleet.drain(router.fleet[link.url])
                num_asked = len(completions(worker))
                while link.url in router.fleet:  # noqa: ASYNC110 - of a worker's leaving no event tells
                    await asyncio.sleep(0.1)
                assert len(completions(worker)) == num_asked
                link.down()
                await asyncio.sleep(1)
                await link.up()
                router.add_worker(link.url)
                await asyncio.sleep(3)
                assert len(completions(worker)) > num_asked
            loading.cancel()
            endings = await asyncio.gather(*asking)
            assert len(endings) > 200
            assert verdicts(endings) == {Verdict.COMPLETE: len(endings)}  # type: ignore[arg-type]

    run_in_virtual_time(scenario())
