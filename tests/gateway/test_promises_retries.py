"""A second attempt starts only while it is safe, never at the same worker, and within a budget: seeded runs through the whole router."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import pytest
from tests.gateway.fake_worker import Answer, Asked, FakeWorker, says, working
from tests.gateway.playing_vllm import (
    BUSY,
    NO_PAGE,
    NOT_STARTED,
    answer_bytes,
    completions,
    streams,
    with_pages,
)
from tests.gateway.promised import Ending, Verdict, ask, assert_at_rest, promised, use_loop_time, verdicts
from tests.gateway.routed import route_to
from tests.support.faulty import CLEAN, End, Fault, FaultyLink, faulty_link
from tests.support.virtual_time import run_in_virtual_time

NUM_WORKERS = 5
NUM_REQUESTS = 60
SEEDS = range(8)
RETRIES = 3


class Chaos:
    """Workers of which each answers each request as a seed says, over links that fail as it says."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.refused: Counter[tuple[str, int]] = Counter()
        """How often a worker told that it had not started, by request and port."""

    def answer_of(self, worker: FakeWorker) -> Answer:
        """Return how a worker answers."""
        well = streams(0.01)(worker)

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            chance = self.random.random()
            if chance < 0.25:
                self.refused[asked.values("X-Request-Id")[0], worker.port] += 1
                await says(NOT_STARTED)(asked, writer)
            elif chance < 0.35:
                await says(BUSY)(asked, writer)
            elif chance < 0.4:
                await says(answer_bytes(500, b'{"error": {"message": "mine"}}'))(asked, writer)
            elif chance < 0.45:
                await says(b"\x16\x03\x01 garbage\r\n\r\n", closes=True)(asked, writer)
            else:
                await well(asked, writer)

        return answer

    def fault(self) -> Fault:
        """Return what is wrong with the next connection."""
        random = self.random
        if random.random() < 0.5:
            return CLEAN
        return Fault(
            latency_seconds=random.choice([0.0, 0.003]),
            slice_bytes=random.choice([0, 1, 7, 100]),
            limit_bytes=random.choice([None, 1, random.randrange(1, 700), random.randrange(1, 700)]),
            end=random.choice(list(End)),
        )

    async def flap(self, links: list[FaultyLink]) -> None:
        """Let workers go and come back."""
        while True:
            await asyncio.sleep(self.random.random() * 0.1)
            link = self.random.choice(links)
            link.down(resets=self.random.random() < 0.5)
            await asyncio.sleep(self.random.random() * 0.1)
            await link.up()


async def run(seed: int) -> tuple[Chaos, list[FakeWorker], list[Ending]]:
    """Ask for many answers at once, and return all that became of them."""
    chaos = Chaos(seed)
    async with AsyncExitStack() as stack:
        workers = await stack.enter_async_context(working(*(says(NO_PAGE) for _ in range(NUM_WORKERS))))
        links = []
        for worker in workers:
            worker.answer = with_pages(chaos.answer_of(worker))
            links.append(await stack.enter_async_context(faulty_link(worker.port)))
        routed = await stack.enter_async_context(
            route_to(
                (),
                worker=tuple(link.url for link in links),
                knowledge="own",
                idle_seconds=5.0,
                retries=RETRIES,
            )
        )
        use_loop_time(routed)
        await routed.ready(NUM_WORKERS)
        for link in links:
            link.fault = chaos.fault
        flapping = asyncio.create_task(chaos.flap(links))

        async def one(number: int) -> Ending:
            await asyncio.sleep(chaos.random.random() * 2)
            return await ask(routed.session, routed.url, f"{number}", f"prompt {number % 9}")

        async with asyncio.timeout(600):
            endings = await asyncio.gather(*(one(number) for number in range(NUM_REQUESTS)))
        flapping.cancel()
        assert_at_rest(routed)
    return chaos, workers, list(endings)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_breaks_the_law_of_retries(seed: int) -> None:
    """Whoever was asked after another: that one could not be reached, or said that it had not started; nobody is asked twice."""
    chaos, workers, endings = run_in_virtual_time(run(seed))
    asked_of: dict[str, list[int]] = {}
    for worker in workers:
        for asked in completions(worker):
            asked_of.setdefault(asked.values("X-Request-Id")[0], []).append(worker.port)
    for number, ending in enumerate(endings):
        ports = asked_of.get(str(number), [])
        assert len(set(ports)) == len(ports) <= RETRIES + 1, "never the same worker twice"
        begun = [port for port in ports if not chaos.refused[str(number), port]]
        assert len(begun) <= 1, "at most one worker took it"
        assert {name for name, _ in ending.tokens} <= {str(port) for port in begun}, (
            "its tokens are that one's"
        )
    ways = verdicts(endings)
    assert [ending for ending in endings if ending.verdict() is Verdict.WRONG] == []
    assert ways[Verdict.COMPLETE] > 0
    assert any(len(ports) > 1 for ports in asked_of.values())


@pytest.mark.parametrize("data", [NOT_STARTED, BUSY])
def test_workers_that_are_all_overloaded_get_at_most_a_fifth_more(data: bytes) -> None:
    """Of a steady 2,000 requests a second that everybody refuses, few more reach workers, and every client is told by 503."""
    num_requests, seconds = 3000, 1.5

    def refusing(_worker: FakeWorker) -> Answer:
        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05)
            await says(data)(asked, writer)

        return answer

    async def scenario() -> tuple[int, list[Ending]]:
        async def one(number: int) -> Ending:
            await asyncio.sleep(seconds * number / num_requests)
            return await ask(routed.session, routed.url, str(number))

        async with promised(*[refusing] * 4, retries=RETRIES) as (routed, workers):
            endings = await asyncio.gather(*(one(number) for number in range(num_requests)))
            return sum(len(completions(worker)) for worker in workers), list(endings)

    num_asked, endings = run_in_virtual_time(scenario())
    print(num_asked / num_requests)
    assert num_asked >= num_requests
    assert num_asked <= 1.2 * num_requests + 3
    assert {ending.status for ending in endings} == {503}
