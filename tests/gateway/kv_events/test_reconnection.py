"""Promises about connections: workers that come back, elsewhere or changed, and those that send too much."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import zmq
from aiohttp import web
from tests.gateway.fake_worker import Asked, says, working
from tests.gateway.kv_events.hearing import hearing
from tests.server.serving import until

from understudy.engine import BlockRemoved, BlockStored, event_hash
from understudy.gateway.source_state import SourceState
from understudy.server.kv_events import KVEventPublisher, KVEventsConfig, kv_event_sources
from understudy.web import start_server

PARENT = b"\0" * 32
"""Events with it begin no prompt, so that they tell nothing of how they are hashed."""


class PublishingWorker:
    """A worker that publishes what a test says, under a URL that stays when it is started again."""

    def __init__(self) -> None:
        self.url = ""
        self.held: Counter[int] = Counter()
        self.publishers: list[KVEventPublisher] = []
        self.status = 200

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PublishingWorker"]:
        """Answer where events are."""
        app = web.Application()
        app.router.add_get("/kv_event_sources", self._sources)
        running = await start_server(app, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{running.port}"
        try:
            yield self
        finally:
            await self.stop()
            await running.drain(1.0)

    async def _sources(self, _request: web.Request) -> web.Response:
        return web.json_response(kv_event_sources(self.publishers), status=self.status)

    def start(
        self, endpoint: str = "tcp://*:0", replay_endpoint: str = "tcp://127.0.0.1:0", **options: Any
    ) -> None:
        """Publish from now on, holding nothing; an address may be that of another publisher that has just gone."""
        config = KVEventsConfig(
            enable_kv_cache_events=True, endpoint=endpoint, replay_endpoint=replay_endpoint, **options
        )
        self.held.clear()
        self.publishers = [KVEventPublisher(config)]

    async def stop(self) -> None:
        """Be gone."""
        for publisher in self.publishers:
            await publisher.close()
        self.publishers = []

    def store(self, blocks: Sequence[int]) -> None:
        """Publish that blocks were stored."""
        hashes = tuple(block.to_bytes(32, "big") for block in blocks)
        self.held.update(event_hash(each) for each in hashes)
        event = BlockStored(hashes, PARENT, (), 16, (None,) * len(hashes))
        self.publishers[0].publish(0.0, [event])

    def remove(self, block: int) -> None:
        """Publish that a copy of a block was removed."""
        self.held[block] -= 1
        self.publishers[0].publish(0.0, [BlockRemoved(block.to_bytes(32, "big"))])


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let publishers bind any port of the loopback interface."""
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.1")


async def started_again(start: Callable[[], None]) -> None:
    """Start once the old addresses are free: ZeroMQ closes sockets in a thread of its own."""
    async with asyncio.timeout(10):
        while True:
            try:
                return start()
            except Exception:  # noqa: BLE001 - UsageError, as long as the address is in use
                await asyncio.sleep(0.005)


@pytest.mark.parametrize("batches_after", [0, 1, 3, 6])
def test_a_worker_that_is_started_again_is_known_anew(batches_after: int) -> None:
    """At the same addresses, however far its numbers have come when the router is back."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.start()
        async with worker.serving(), hearing(worker.url) as (subscriber, heard):
            for block in range(3):
                worker.store([block, 100 + block])
            await until(lambda: heard.held == worker.held)
            config = worker.publishers[0].config
            await worker.stop()
            await until(lambda: not subscriber.figures.is_connected)
            replays = config.replay_endpoint or ""
            await started_again(lambda: worker.start(config.endpoint.replace("127.0.0.1", "*"), replays))
            for block in range(batches_after):
                worker.store([block, 200 + block])
            await until(
                lambda: (
                    subscriber.figures.is_connected
                    and subscriber.figures.is_complete
                    and heard.held == worker.held
                )
            )
            assert subscriber.figures.num_restarts == 1
            assert heard.states == [(SourceState.FOLLOWED, None)]

    asyncio.run(main())


def test_a_worker_may_publish_elsewhere_when_it_is_back() -> None:
    """Its new addresses are found."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.start()
        async with worker.serving(), hearing(worker.url) as (_, heard):
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            await worker.stop()
            worker.start()
            worker.store([3])
            await until(lambda: heard.held == worker.held)

    asyncio.run(main())


def test_a_worker_may_come_back_without_events() -> None:
    """Then nothing is known of it; and with events it is heard again."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.start()
        async with worker.serving(), hearing(worker.url) as (subscriber, heard):
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            await worker.stop()
            await until(lambda: heard.state is SourceState.ABSENT)
            assert not heard.held
            worker.start()
            worker.store([3])
            subscriber.verify()
            await until(lambda: heard.held == worker.held)

    asyncio.run(main())


def test_a_worker_that_is_not_up_yet_is_waited_for() -> None:
    """An answer that tells of its start is none."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.status = 503
        worker.start()
        async with worker.serving(), hearing(worker.url) as (subscriber, heard):
            worker.store([1])
            await asyncio.sleep(0.05)
            assert subscriber.state is SourceState.UNKNOWN
            worker.status = 200
            await until(lambda: heard.held == worker.held)

    asyncio.run(main())


@pytest.mark.parametrize(("status", "told"), [(404, "does not tell where"), (401, "--worker-api-key")])
def test_a_worker_that_does_not_tell_is_left_alone(status: int, told: str) -> None:
    """With the reason."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.status = status
        async with worker.serving(), hearing(worker.url) as (_, heard):
            await until(lambda: heard.state is SourceState.ABSENT)
            assert told in str(heard.states[-1][1])

    asyncio.run(main())


def test_a_batch_without_measure_is_not_taken() -> None:
    """The worker is disconnected; what it holds is unknown, and known is a part of it that comes after."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.start()
        async with worker.serving(), hearing(worker.url, max_batch_bytes=4096) as (subscriber, heard):
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            worker.store(range(10_000))
            worker.store([3, 4])
            await until(lambda: subscriber.figures.num_losses > 0 and subscriber.figures.is_connected)
            worker.store([5])
            await until(lambda: heard.held[5] > 0)
            assert heard.held <= worker.held
            assert heard.held.total() < 10
            assert not subscriber.figures.is_complete

    asyncio.run(main())


def test_what_cannot_be_read_is_forgotten_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches behind it are heard."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.start()
        async with worker.serving(), hearing(worker.url) as (subscriber, heard):
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            with monkeypatch.context() as patch:
                patch.setattr("understudy.server.kv_events.publisher.batch_bytes", lambda *_: b"\xc1")
                worker.store([7])
            worker.store([3])
            await until(lambda: heard.held == Counter([3]))
            figures = subscriber.figures
            assert (figures.num_unreadable, figures.num_losses, figures.is_complete) == (1, 1, False)

    asyncio.run(main())


def test_other_topics_are_not_heard() -> None:
    """A topic that begins alike is another one."""

    async def main() -> None:
        worker = PublishingWorker()
        worker.start(topic="kv")
        async with worker.serving(), hearing(worker.url) as (subscriber, heard):
            await until(lambda: subscriber.figures.is_connected)
            worker.store([1])
            await until(lambda: heard.held == worker.held)
            publisher = worker.publishers[0]
            publisher._topic = b"kv2"
            num_batches = subscriber.figures.num_batches
            publisher.publish(0.0, [])
            publisher._topic = b"kv"
            publisher.publish(0.0, [])
            await until(lambda: subscriber.figures.num_batches > num_batches)
            assert subscriber.figures.num_batches == num_batches + 1

    asyncio.run(main())


def sources(**config: Any) -> bytes:
    """Return the whole answer of a worker with one rank to a question for its sources."""
    body = json.dumps({"0": {"publisher": "zmq"} | config}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_an_endpoint_that_is_none_is_told() -> None:
    """ZeroMQ refuses it; nothing is left open."""

    async def main() -> None:
        answer = says(sources(endpoint="tcp://127.0.0.1:1", replay_endpoint="tcp://127.0.0.1:no"))
        async with working(answer) as (worker,), hearing(worker.url) as (_, heard):
            await until(lambda: heard.state is SourceState.ABSENT)
            assert "cannot be heard: tcp://127.0.0.1:no" in str(heard.states[-1][1])

    asyncio.run(main())


def test_a_worker_that_cannot_be_reached_is_asked_again() -> None:
    """Until it answers."""

    async def main() -> None:
        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            if len(worker.asked) < 3:
                writer.close()
            else:
                await says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")(asked, writer)

        async with working(answer) as (worker,), hearing(worker.url) as (subscriber, heard):
            await until(lambda: len(worker.asked) == 2)
            assert subscriber.state is SourceState.UNKNOWN
            await until(lambda: heard.state is SourceState.ABSENT)

    asyncio.run(main())


def test_whoever_never_replays_is_heard_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """From some batch on; what was before it is not known, and is asked for in vain when all is quiet."""
    monkeypatch.setattr("understudy.gateway.kv_events.rank_stream.REPLAY_SECONDS", 0.02)
    monkeypatch.setattr("understudy.gateway.kv_events.rank_stream.QUIET_SECONDS", 0.02)

    async def main() -> None:
        deaf: zmq.Socket[bytes]
        with zmq.Context.instance().socket(zmq.ROUTER) as deaf:
            deaf.bind("tcp://127.0.0.1:0")
            worker = PublishingWorker()
            worker.start()
            publisher = worker.publishers[0]
            publisher.config = msgspec.structs.replace(
                publisher.config, replay_endpoint=deaf.getsockopt_string(zmq.LAST_ENDPOINT)
            )
            async with worker.serving(), hearing(worker.url) as (subscriber, heard):
                await until(lambda: subscriber.figures.num_losses == 1 and subscriber.figures.is_connected)
                worker.store([1])
                await until(lambda: heard.held == worker.held)
                (stream,) = subscriber._streams
                await until(lambda: stream.follower.is_waiting)
                await until(lambda: not stream.follower.is_waiting)
                assert heard.held == worker.held
                assert subscriber.figures.num_losses == 1

    asyncio.run(main())


def test_a_replay_goes_on_once_the_worker_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it was asked for in vain meanwhile."""
    monkeypatch.setattr("understudy.gateway.kv_events.rank_stream.REPLAY_SECONDS", 0.02)

    async def main() -> None:
        worker = PublishingWorker()
        worker.start()
        async with worker.serving(), hearing(worker.url) as (subscriber, heard):
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            config = worker.publishers[0].config
            await worker.stop()
            (stream,) = subscriber._streams
            await until(lambda: stream._replay_attempts > 2)
            replays = config.replay_endpoint or ""
            await started_again(lambda: worker.start(config.endpoint.replace("127.0.0.1", "*"), replays))
            worker.store([3])
            await until(lambda: heard.held == worker.held)

    asyncio.run(main())
