"""`understudy route` as a process, before workers that are killed, stopped and started again."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from tests.cli.processes import TIMEOUT_SECONDS, environment
from tests.e2e.served import MODEL, Server, served
from tests.gateway.promised import Ending, Verdict, ask, verdicts

ROUTE = ("-m", "understudy", "route", "--no-access-log")
ROOT = Path(__file__).parents[2]
NUM_WORKERS = 8
NUM_STREAMS = 500
PAUSE_SECONDS = 0.6
"""Between two tokens of a stream; long enough that all streams are open when workers are killed."""


@contextmanager
def routing(*flags: str) -> Iterator[Server]:
    """Start a router, and kill it in the end if it is still there."""
    with served(*flags, command=ROUTE) as router:
        match = re.search(r"Routing on http://127\.0\.0\.1:(\d+) ", router.wait_for("Routing on "))
        assert match is not None
        router.port = int(match[1])
        yield router


@contextmanager
def token_worker() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a light worker, and kill it in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.token_worker", str(PAUSE_SECONDS)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def wait_until_ready(router: Server, num_workers: int) -> None:
    """Wait until the router finds so many workers healthy."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while num_healthy(router) < num_workers:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def num_healthy(router: Server) -> int:
    """Return how many workers the router's page calls healthy."""
    page = router.request("/metrics").read().decode()
    return page.count('health="healthy"')


async def stream_all(url: str, killed: Sequence[subprocess.Popen[str]]) -> tuple[list[Ending], list[float]]:
    """Open all streams, kill these workers, and return what clients got, and how long after that each heard its end."""
    num_begun, all_begun = 0, asyncio.Event()

    def begun() -> None:
        nonlocal num_begun
        num_begun += 1
        if num_begun == NUM_STREAMS:
            all_begun.set()

    async def one(number: int) -> tuple[Ending, float]:
        ending = await ask(session, url, str(number), f"{number} " + "word " * 40, on_first_byte=begun)
        return ending, time.monotonic()

    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        asking = [asyncio.create_task(one(number)) for number in range(NUM_STREAMS)]
        await all_begun.wait()
        killed_at = time.monotonic()
        for process in killed:
            process.kill()
        timed = await asyncio.gather(*asking)
    told = [at - killed_at for ending, at in timed if ending.verdict() is Verdict.TOLD]
    return [ending for ending, _ in timed], told


@pytest.mark.parametrize("num_killed", range(1, NUM_WORKERS))
def test_workers_that_are_killed_leave_nobody_in_doubt(num_killed: int) -> None:
    """By SIGKILL, under 500 open streams: each ends whole or by an error, no token of another worker, nobody asked twice."""
    with ExitStack() as stack:
        workers = [stack.enter_context(token_worker()) for _ in range(NUM_WORKERS)]
        flags = [word for _, url in workers for word in ("--worker", url)]
        router = stack.enter_context(routing("--knowledge", "own", *flags))
        wait_until_ready(router, NUM_WORKERS)
        killed = [process for process, _ in workers[:num_killed]]
        endings, told = asyncio.run(stream_all(f"http://127.0.0.1:{router.port}", killed))
        assert router.stop() == 0
        for process, _ in workers:
            process.kill()
        asked = Counter(line for process, _ in workers for line in (process.stdout or ()))
    ways = verdicts(endings)
    assert ways[Verdict.WRONG] == 0
    assert ways[Verdict.TOLD] > 0
    assert ways[Verdict.COMPLETE] > 0
    assert set(asked.values()) == {1}
    killed_ports = {url.rpartition(":")[2] for _, url in workers[:num_killed]}
    for ending in endings:
        if ending.verdict() is Verdict.COMPLETE and ending.tokens[0][0] in killed_ports:
            raise AssertionError(f"a killed worker's answer looks whole: {ending}")
    print(f"{num_killed} killed: {dict(ways)}, the last was told after {max(told):.3f} s")


def test_a_worker_that_is_killed_idle_costs_nobody_anything() -> None:
    """Forty requests, one after another, for which it had the cache, go to another one without an error."""

    async def scenario(url: str) -> list[Ending]:
        async with aiohttp.ClientSession() as session:
            prompt = "the same " * 100
            warm = await ask(session, url, "warm", prompt)
            home = warm.headers["X-Understudy-Worker"]
            (process,) = [process for process, worker_url in workers if worker_url == home]
            process.kill()
            process.wait()
            started = time.monotonic()
            first = await ask(session, url, "first", prompt)
            print(
                f"the first one took {time.monotonic() - started - 5 * PAUSE_SECONDS:.3f} s longer than its answer"
            )
            asking = [asyncio.create_task(ask(session, url, str(number), prompt)) for number in range(39)]
            return [first, *await asyncio.gather(*asking)]

    with ExitStack() as stack:
        workers = [stack.enter_context(token_worker()) for _ in range(3)]
        flags = [word for _, url in workers for word in ("--worker", url)]
        router = stack.enter_context(routing("--knowledge", "own", *flags))
        wait_until_ready(router, 3)
        endings = asyncio.run(scenario(f"http://127.0.0.1:{router.port}"))
        assert verdicts(endings) == {Verdict.COMPLETE: 40}


Statuses = Counter[tuple[int, str]]
"""How requests ended: by status and reason."""


async def load(url: str, done: asyncio.Event) -> Statuses:
    """Send requests all the time until `done`, and return how they ended."""
    statuses = Statuses()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as tasks,
    ):

        async def one(number: int) -> None:
            body = {
                "model": MODEL,
                "prompt": f"{number} " + "word " * 40,
                "max_tokens": 20,
                "ignore_eos": True,
            }
            try:
                async with session.post(f"{url}/v1/completions", json=body) as response:
                    answer = await response.json()
                    statuses[response.status, str(answer["choices"][0]["finish_reason"])] += 1
            except (aiohttp.ClientError, KeyError) as error:
                statuses[0, repr(error)] += 1

        for number in count():
            if done.is_set():
                break
            tasks.create_task(one(number))
            await asyncio.sleep(0.02)
    return statuses


class WorkersFile:
    """The file in which a router finds its workers, and what the router makes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.admin_port = 0

    def write(self, workers: Sequence[Server]) -> set[str]:
        """Name these workers, and return their addresses."""
        urls = {f"http://127.0.0.1:{worker.port}" for worker in workers}
        self.path.write_text("\n".join(urls))
        return urls

    def follow(self, workers: Sequence[Server]) -> None:
        """Name these workers, and return once the router has these and no others."""
        urls = self.write(workers)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._healthy() != urls:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _healthy(self) -> set[str]:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.admin_port}/workers", timeout=TIMEOUT_SECONDS
        ) as page:
            return {worker["url"] for worker in json.load(page)["workers"] if worker["health"] == "healthy"}


def restart_all(running: list[Server], file: WorkersFile, stack: ExitStack) -> None:
    """Replace each worker by a new one: it leaves the file, the router lets it go, and it is stopped."""
    for leaving in list(running):
        running.remove(leaving)
        file.follow(running)
        assert leaving.stop() == 0
        joining = stack.enter_context(served())
        joining.wait_until_it_serves()
        running.append(joining)
        file.follow(running)


def test_a_rolling_restart_fails_nobody(tmp_path: Path) -> None:
    """Real workers leave the file, are stopped by SIGTERM once the router has let them go, and new ones join: no request fails."""

    async def scenario(url: str) -> Statuses:
        done = asyncio.Event()
        loading = asyncio.create_task(load(url, done))
        await asyncio.to_thread(restart_all, running, file, stack)
        done.set()
        return await loading

    with ExitStack() as stack:
        running = [stack.enter_context(served()) for _ in range(2)]
        for worker in running:
            worker.wait_until_it_serves()
        file = WorkersFile(tmp_path / "workers")
        file.write(running)
        router = stack.enter_context(routing("--workers-file", str(file.path), "--admin-port", "0"))
        match = re.search(r"Admin API on http://127\.0\.0\.1:(\d+)", router.wait_for("Admin API on "))
        assert match is not None
        file.admin_port = int(match[1])
        wait_until_ready(router, 2)
        statuses = asyncio.run(scenario(f"http://127.0.0.1:{router.port}"))
    assert set(statuses) == {(200, "length")}
    assert statuses.total() > 50
    print(f"{statuses.total()} requests, none failed")


def test_a_router_that_is_told_to_stop_finishes_what_it_has() -> None:
    """SIGTERM: nobody new gets in, streams that run come to their end, and the status is 0; a second one ends it at once."""

    async def scenario(url: str) -> tuple[list[Ending], float]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            asking = [
                asyncio.create_task(ask(session, url, str(number), f"{number} x")) for number in range(50)
            ]
            await asyncio.sleep(1.5 * PAUSE_SECONDS)
            router.process.send_signal(signal.SIGTERM)
            sent_at = time.monotonic()
            refused_at = 0.0
            while not refused_at:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", router.port)
                    writer.close()
                except ConnectionError:
                    refused_at = time.monotonic()
            return list(await asyncio.gather(*asking)), refused_at - sent_at

    with ExitStack() as stack:
        workers = [stack.enter_context(token_worker()) for _ in range(2)]
        flags = [word for _, url in workers for word in ("--worker", url)]
        router = stack.enter_context(routing("--knowledge", "own", *flags))
        wait_until_ready(router, 2)
        endings, refused_after = asyncio.run(scenario(f"http://127.0.0.1:{router.port}"))
        assert verdicts(endings) == {Verdict.COMPLETE: 50}
        assert router.end() == 0
        print(f"new connections were refused after {refused_after:.3f} s")

        router = stack.enter_context(routing("--knowledge", "own", *flags))
        wait_until_ready(router, 2)
        reader = router.request("/v1/completions", {"model": "m", "prompt": "x", "stream": True})
        assert reader.readline().startswith(b"data: ")
        router.process.send_signal(signal.SIGTERM)
        router.wait_for("Draining")
        stopped_at = time.monotonic()
        assert router.stop() == -signal.SIGTERM
        print(f"a second signal ended it after {time.monotonic() - stopped_at:.3f} s")
        with contextlib.suppress(Exception):
            reader.read()
