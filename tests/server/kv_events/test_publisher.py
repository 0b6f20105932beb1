"""Promises of the publisher to subscribers, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio

from understudy.engine import BlockRemoved, BlockStored
from understudy.errors import UsageError
from understudy.server.kv_events import KVEventPublisher, KVEventsConfig, kv_event_sources, open_publisher
from understudy.wire.kv_events import batch_bytes, event_map

SECONDS = 10.0
"""A bound for what takes milliseconds."""
END_OF_REPLAY = [b"", b"", b"\xff" * 8, b""]
EVENT = BlockStored((b"h" * 32,), None, tuple(range(64)), 64, (None,))


@dataclass
class Subscriber:
    """Binds a port of its own, so that the publisher connects to it, and notes sequence numbers."""

    topic: bytes = b""
    sequences: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = zmq.asyncio.Context.instance().socket(zmq.SUB)
        self.socket.subscribe(self.topic)
        self.socket.bind("tcp://127.0.0.1:0")
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    async def receive(self, seconds: float = SECONDS) -> bool:
        """Take the next batch; whether one came."""
        if not await self.socket.poll(int(seconds * 1000)):
            return False
        topic, sequence, payload = await self.socket.recv_multipart()
        assert topic.startswith(self.topic)
        assert len(sequence) == 8
        self.sequences.append(int.from_bytes(sequence, "big"))
        self.payloads.append(payload)
        return True

    async def join(self, publisher: KVEventPublisher) -> None:
        """Have batches published until one comes: what came before the connection stood is lost."""
        while not self.sequences:
            publisher.publish(0.0, [EVENT])
            await self.receive(0.02)
        while await self.receive(0.02):
            pass


@asynccontextmanager
async def subscribed(**options: Any) -> AsyncIterator[tuple[KVEventPublisher, Subscriber]]:
    """Yield a publisher and a subscriber that hears it."""
    config_fields = {name: options.pop(name) for name in KVEventsConfig.__struct_fields__ if name in options}
    subscriber = Subscriber(config_fields.get("topic", "").encode())
    config = KVEventsConfig(
        enable_kv_cache_events=True,
        endpoint=subscriber.endpoint,
        replay_endpoint="tcp://127.0.0.1:0",
        **config_fields,
    )
    publisher = KVEventPublisher(config, **options)
    try:
        await asyncio.wait_for(subscriber.join(publisher), SECONDS)
        yield publisher, subscriber
    finally:
        await publisher.close()
        subscriber.socket.close(linger=0)


async def replay(publisher: KVEventPublisher, first: int) -> list[list[bytes]]:
    """Return the messages of a replay up to the terminator, frames as a DEALER sees them."""
    replay_endpoint = publisher.config.replay_endpoint
    assert replay_endpoint is not None
    messages: list[list[bytes]] = []
    with zmq.asyncio.Context.instance().socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(replay_endpoint)
        await dealer.send_multipart([b"", first.to_bytes(8, "big")])
        while not messages or messages[-1] != END_OF_REPLAY:
            messages.append(await asyncio.wait_for(dealer.recv_multipart(), SECONDS))
    return messages


def sequences_of(messages: Sequence[Sequence[bytes]]) -> list[int]:
    """Return the sequence numbers of a replay without its terminator."""
    return [int.from_bytes(sequence, "big") for _, _, sequence, _ in messages[:-1]]


def test_a_late_subscriber_sees_the_gap_and_fills_it() -> None:
    """Live batches and a replay together are every batch, byte for byte, and live ones come in order."""

    async def scenario() -> None:
        async with subscribed(rank=0) as (publisher, subscriber):
            for number in range(50):
                publisher.publish(number, [EVENT, BlockRemoved(number.to_bytes(32, "big"))])
                assert await subscriber.receive()
            live = dict(zip(subscriber.sequences, subscriber.payloads, strict=True))
            assert list(live) == list(range(subscriber.sequences[0], subscriber.sequences[-1] + 1))
            messages = await replay(publisher, 0)
            replayed = dict(zip(sequences_of(messages), (message[3] for message in messages), strict=False))
            assert list(replayed) == list(range(len(replayed)))
            assert replayed.keys() >= live.keys()
            assert all(replayed[sequence] == payload for sequence, payload in live.items())

    asyncio.run(scenario())


@pytest.mark.parametrize("int_hashes", [True, False])
def test_a_batch_carries_its_rank_topic_and_time(int_hashes: bool) -> None:  # noqa: FBT001 - the two cases
    """The payload is that of the bytes' own module."""

    async def scenario() -> None:
        subscriber = Subscriber(b"kv@pod@m")
        port = int(subscriber.endpoint.rpartition(":")[2])
        endpoint = f"tcp://127.0.0.1:{port - 3}"
        config = KVEventsConfig(enable_kv_cache_events=True, endpoint=endpoint, topic="kv@pod@m")
        publisher = KVEventPublisher(config, 3, int_hashes=int_hashes)
        await asyncio.wait_for(subscriber.join(publisher), SECONDS)
        publisher.publish(12.25, [EVENT])
        assert await subscriber.receive()
        assert subscriber.payloads[-1] == batch_bytes(12.25, [event_map(EVENT, {}, int_hashes=int_hashes)], 3)
        await publisher.close()
        subscriber.socket.close(linger=0)

    asyncio.run(scenario())


@pytest.mark.parametrize("buffer_steps", [0, 1, 5, 1000])
def test_a_replay_has_what_is_kept_from_the_number_asked_for(buffer_steps: int) -> None:
    """The last `buffer_steps` batches are kept; topic, number and payload are those of the live batch."""

    async def scenario() -> None:
        async with subscribed(buffer_steps=buffer_steps, topic="kv") as (publisher, subscriber):
            for number in range(200):
                publisher.publish(float(number), [EVENT])
                assert await subscriber.receive()
            last = subscriber.sequences[-1]
            kept = range(max(0, last + 1 - buffer_steps), last + 1)
            for first in (0, last - 2, last, last + 1, 2**63):
                messages = await replay(publisher, first)
                assert sequences_of(messages) == [sequence for sequence in kept if sequence >= first]
                assert all(message[:2] == [b"", b"kv"] for message in messages[:-1])

    asyncio.run(scenario())


def test_what_is_no_replay_request_is_passed_over() -> None:
    """Nobody can stop replays by talking nonsense."""

    async def scenario() -> None:
        async with subscribed() as (publisher, _):
            assert publisher.config.replay_endpoint is not None
            with zmq.asyncio.Context.instance().socket(zmq.DEALER) as dealer:
                dealer.linger = 0
                dealer.connect(publisher.config.replay_endpoint)
                await dealer.send(b"?")
                await dealer.send_multipart([b"", b"", b"", b""])
                await dealer.send_multipart([b"", b""])
                assert sequences_of([await asyncio.wait_for(dealer.recv_multipart(), SECONDS), []]) == [0]
            assert (await replay(publisher, 0))[-1] == END_OF_REPLAY

    asyncio.run(scenario())


def test_deliveries_are_lost_doubled_held_back_and_out_of_order_as_told() -> None:
    """A replay is right whatever went wrong with the live batches."""
    plans: dict[int, tuple[float, ...]] = {}

    async def scenario() -> None:
        async with subscribed(deliver=lambda sequence: plans.get(sequence, (0.0,))) as (
            publisher,
            subscriber,
        ):
            start = subscriber.sequences[-1] + 1
            plans.update({start: (), start + 1: (0.0, 0.0), start + 2: (0.05,), start + 3: (0.1, 0.0)})
            for _ in range(5):
                publisher.publish(0.0, [EVENT])
            subscriber.sequences.clear()
            for _ in range(6):
                assert await subscriber.receive()
            assert [sequence - start for sequence in subscriber.sequences] == [1, 1, 3, 4, 2, 3]
            assert sequences_of(await replay(publisher, start)) == list(range(start, start + 5))

    asyncio.run(scenario())


def test_a_subscriber_that_does_not_read_holds_up_nobody() -> None:
    """It loses batches, which is counted as often as it begins, and the others lose none."""

    async def scenario() -> None:
        context = zmq.Context[zmq.Socket[bytes]].instance()
        config = KVEventsConfig(enable_kv_cache_events=True, endpoint="inproc://slow", hwm=2)
        publisher = KVEventPublisher(config, context=context)
        idle, eager = context.socket(zmq.SUB), context.socket(zmq.SUB)
        try:
            for subscriber, high_water_mark in ((idle, 1), (eager, 100_000)):
                subscriber.rcvhwm = high_water_mark
                subscriber.connect("inproc://slow")
                subscriber.subscribe(b"")
            received = []
            for num_overflows in (1, 2):
                async with asyncio.timeout(SECONDS):
                    while publisher.num_overflows < num_overflows:
                        publisher.publish(0.0, [EVENT])
                        received.append(eager.recv_multipart(zmq.NOBLOCK)[1])
                        await asyncio.sleep(0)
                while idle.poll(0):
                    idle.recv_multipart()
            assert [int.from_bytes(sequence, "big") for sequence in received] == list(range(len(received)))
        finally:
            idle.close(linger=0)
            eager.close(linger=0)
            await publisher.close()

    asyncio.run(scenario())


def test_a_closed_publisher_leaves_nothing_behind() -> None:
    """No task, and its endpoints can be had again; batches that are held back do not come any more."""

    async def scenario() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        async with subscribed(deliver=lambda _sequence: (0.0, 0.2)) as (publisher, _):
            publisher.publish(0.0, [EVENT])
            assert len(asyncio.all_tasks()) == 2
            await publisher.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert publisher.config.replay_endpoint is not None
            await asyncio.wait_for(_bound_at_last(publisher.config.replay_endpoint), SECONDS)
            await asyncio.sleep(0.25)
            assert failures == []

    asyncio.run(scenario())


async def _bound_at_last(endpoint: str) -> None:
    """Return once the endpoint can be bound: ZeroMQ closes sockets in a thread of its own."""
    other: zmq.Socket[bytes]
    with zmq.Context.instance().socket(zmq.ROUTER) as other:
        while True:
            try:
                other.bind(endpoint)
            except zmq.ZMQError:
                await asyncio.sleep(0.005)
            else:
                return


def test_an_endpoint_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """And the other socket, already bound, is given up."""

    async def scenario() -> None:
        other: zmq.Socket[bytes]
        with zmq.Context.instance().socket(zmq.ROUTER) as other:
            other.bind("tcp://127.0.0.1:0")
            taken: str = other.getsockopt_string(zmq.LAST_ENDPOINT)
            endpoint = f"ipc://{tmp_path}/events"
            config = KVEventsConfig(enable_kv_cache_events=True, endpoint=endpoint, replay_endpoint=taken)
            with pytest.raises(UsageError, match="cannot bind"):
                KVEventPublisher(config)
            publisher = KVEventPublisher(msgspec.structs.replace(config, replay_endpoint=None))
            await publisher.close()

    asyncio.run(scenario())


def test_sources_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Per rank, with the port that the system gave; nothing where events are off."""
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.1")

    async def scenario() -> None:
        config = KVEventsConfig(enable_kv_cache_events=True, endpoint="tcp://*:0")
        publishers = [KVEventPublisher(config, rank) for rank in range(2)]
        sources = kv_event_sources(publishers)
        assert list(sources) == ["0", "1"]
        ports = set()
        for source in sources.values():
            host, _, port = source["endpoint"].rpartition(":")
            assert host == "tcp://127.0.0.1"
            ports.add(int(port))
            assert source == msgspec.structs.asdict(config) | {"endpoint": source["endpoint"]}
        assert len(ports) == 2
        assert 0 not in ports
        for publisher in publishers:
            await publisher.close()

    asyncio.run(scenario())
    assert open_publisher(KVEventsConfig()) is None
    assert kv_event_sources([]) == {}
