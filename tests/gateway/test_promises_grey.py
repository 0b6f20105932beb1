"""A worker that is much slower than the others, though it never fails: it gets few requests, and the others answer as if it were not there."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from itertools import count
from random import Random
from typing import NamedTuple

import aiohttp
from tests.gateway.playing_vllm import PATH
from tests.gateway.promised import use_loop_time
from tests.gateway.routed import FLAGS, Routed, route_to
from tests.server.serving import MODEL, Served, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.faults import FaultPlan
from understudy.server.faults.plan import Slow

ENGINE = (
    *FLAGS,
    "--max-model-len",
    "4096",
    "--num-gpu-blocks-override",
    "4000",
    "--prefill-base-seconds",
    "0.02",
    "--decode-seconds-per-step",
    "0.02",
)
REQUESTS_PER_SECOND = 40
OUTPUT_TOKENS = 16
FOUND_SECONDS = 10.0
MEASURED_SECONDS = 20.0


class Asked(NamedTuple):
    """A request that has been answered."""

    sent_seconds: float
    worker: str
    ttft_seconds: float


async def ask(session: aiohttp.ClientSession, url: str, prompt: str) -> Asked:
    """Ask for a stream; note who answers, and when its first token comes."""
    now = asyncio.get_running_loop().time
    sent_seconds, first_seconds = now(), None
    body = {"model": MODEL, "prompt": prompt, "max_tokens": OUTPUT_TOKENS, "stream": True, "ignore_eos": True}
    async with session.post(url + PATH, json=body) as response:
        assert response.status == 200
        async for _ in response.content.iter_any():
            first_seconds = first_seconds or now()
        assert first_seconds is not None
        return Asked(sent_seconds, response.headers["X-Understudy-Worker"], first_seconds - sent_seconds)


async def load(routed: Routed) -> list[Asked]:
    """Send prompts of their own at a steady rate, at random times, and return what became of them."""
    random, numbers, asking = Random(1), count(), list[asyncio.Task[Asked]]()
    now = asyncio.get_running_loop().time
    start_seconds = now()
    while now() < start_seconds + FOUND_SECONDS + MEASURED_SECONDS:
        prompt = f"{next(numbers)} " + "word " * 20
        asking.append(asyncio.create_task(ask(routed.session, routed.url, prompt)))
        await asyncio.sleep(random.expovariate(REQUESTS_PER_SECOND))
    answered = await asyncio.gather(*asking)
    return [asked for asked in answered if asked.sent_seconds >= start_seconds + FOUND_SECONDS]


async def measured(num_workers: int, *, num_slow: int) -> tuple[list[Asked], list[Served]]:
    """Return what was answered after the time in which a slow worker is to be found; the first ones are ten times slower."""
    async with AsyncExitStack() as stack:
        slow = FaultPlan(faults=(Slow(factor=10.0),))
        workers = [
            await stack.enter_async_context(serving(*ENGINE, faults=slow if number < num_slow else None))
            for number in range(num_workers)
        ]
        routed = await stack.enter_async_context(route_to(workers, knowledge="own"))
        use_loop_time(routed)
        await routed.ready()
        return await load(routed), workers


def p99(asked: list[Asked]) -> float:
    """Return the time of a first token that one in a hundred exceeds."""
    return sorted(each.ttft_seconds for each in asked)[len(asked) * 99 // 100]


def test_a_slow_worker_gets_little_and_holds_up_nobody() -> None:
    """After 10 s a worker ten times slower has below 25 % of its share, and the first token's p99 is at most 1.5 times that without it."""
    with_slow, (slow, *others) = run_in_virtual_time(measured(4, num_slow=1))
    healthy, _ = run_in_virtual_time(measured(3, num_slow=0))
    shares = Counter(asked.worker for asked in with_slow)
    assert sum(shares.values()) > 600
    assert all(shares[worker.url] > 0 for worker in others)
    print(shares[slow.url] / (len(with_slow) / 4), p99(with_slow), p99(healthy))
    assert shares[slow.url] < 0.25 * len(with_slow) / 4
    assert p99(with_slow) <= 1.5 * p99(healthy)
