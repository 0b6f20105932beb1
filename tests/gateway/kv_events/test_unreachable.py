"""Promises about events that are published where this router cannot reach them: it does not wait for them in vain."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from tests.gateway.kv_events.hearing import Heard, hearing
from tests.gateway.kv_events.test_reconnection import PublishingWorker, started_again
from tests.server.serving import until

from understudy.gateway.kv_events import EventSubscriber
from understudy.gateway.source_state import SourceState

SECONDS = 0.3


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let publishers bind any port of the loopback interface, and routers lose patience soon."""
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.1")
    monkeypatch.setattr("understudy.gateway.kv_events.subscriber.REACH_SECONDS", SECONDS)


class MisleadingWorker(PublishingWorker):
    """Names ports for its events whether or not somebody is there."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint, self.replay_endpoint = _unused_endpoint(), _unused_endpoint()

    async def _sources(self, _request: web.Request) -> web.Response:
        named = {
            "publisher": "zmq",
            "endpoint": self.endpoint,
            "replay_endpoint": self.replay_endpoint,
            "buffer_steps": 100,
        }
        return web.json_response(text=json.dumps({"0": named}))

    async def publish(self) -> None:
        """Publish where it says."""
        endpoint = self.endpoint.replace("127.0.0.1", "*")
        await started_again(lambda: self.start(endpoint, self.replay_endpoint))


def _unused_endpoint() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{unused.getsockname()[1]}"


@asynccontextmanager
async def misled() -> AsyncIterator[tuple[MisleadingWorker, EventSubscriber, Heard]]:
    """Hear a worker that publishes nothing yet."""
    worker = MisleadingWorker()
    async with worker.serving(), hearing(worker.url) as (subscriber, heard):
        yield worker, subscriber, heard


def test_events_that_cannot_be_reached_are_absent() -> None:
    """With the address in the reason."""

    async def main() -> None:
        async with misled() as (worker, subscriber, heard):
            await until(lambda: heard.state is SourceState.ABSENT)
            told = f"publishes KV events at {worker.endpoint}, which cannot be reached from here"
            assert heard.states == [(SourceState.FOLLOWED, None), (SourceState.ABSENT, told)]
            assert not subscriber.figures.is_connected

    asyncio.run(main())


def test_events_that_can_be_reached_at_last_are_followed() -> None:
    """From the first one on, as if the worker had always been heard."""

    async def main() -> None:
        async with misled() as (worker, subscriber, heard):
            await until(lambda: heard.state is SourceState.ABSENT)
            await worker.publish()
            worker.store([1, 2])
            worker.store([3])
            await until(lambda: heard.held == worker.held and subscriber.figures.is_complete)
            assert [state for state, _ in heard.states[2:]] == [SourceState.FOLLOWED]

    asyncio.run(main())


def test_what_was_known_of_events_that_went_away_is_forgotten() -> None:
    """Where the worker still answers; and it is learned anew when they are back."""

    async def main() -> None:
        async with misled() as (worker, _, heard):
            await worker.publish()
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            await worker.stop()
            await until(lambda: heard.state is SourceState.ABSENT)
            assert not heard.held
            await worker.publish()
            worker.store([7])
            await until(lambda: heard.held == worker.held)
            assert heard.state is SourceState.FOLLOWED

    asyncio.run(main())


def test_a_port_that_speaks_otherwise_is_not_reached() -> None:
    """However often it takes a connection and breaks it."""

    async def main() -> None:
        async with misled() as (worker, _, heard):
            port = int(worker.endpoint.rpartition(":")[2])

            async def break_off(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.close()
                await asyncio.sleep(0)

            async with await asyncio.start_server(break_off, "127.0.0.1", port):
                await until(lambda: heard.state is SourceState.ABSENT)

    asyncio.run(main())


def test_all_that_a_worker_holds_may_be_learned_anew() -> None:
    """By whoever has passed over what was told; nothing else changes."""

    async def main() -> None:
        async with misled() as (worker, subscriber, heard):
            await worker.publish()
            worker.store([1, 2])
            await until(lambda: heard.held == worker.held)
            subscriber.learn_anew()
            assert not heard.held
            await until(lambda: heard.held == worker.held)
            assert heard.states == [(SourceState.FOLLOWED, None)]

    asyncio.run(main())
