"""A PUB socket for the KV events of one engine, and a ROUTER socket that replays them.

Three frames a batch: topic, sequence number (8 bytes, big-endian, from 0), payload. A replay is asked for with an empty
frame and the first number wanted; the answer is an empty frame and three frames for each batch that is still kept, then a
terminator with the number -1. (vllm/distributed/kv_events.py, 0.33.0)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from understudy.engine import KVCacheEvent
from understudy.server.engine_clock import Timer
from understudy.server.kv_events.config import KVEventsConfig
from understudy.server.kv_events.endpoint import bind, binds, connect, rank_endpoint
from understudy.wire.kv_events import batch_bytes, event_map

Deliver = Callable[[int], Sequence[float]]
"""Takes a sequence number; returns after how many seconds each copy of that batch is sent, 0 for at once, nothing to lose it.

A batch that is held longer than the next one comes behind it. Replays tell the truth all the same.
"""

CallLater = Callable[[float, Callable[[], None]], Timer]
"""Calls back after so many seconds: the event loop's `call_later`, unless the seconds are of another clock."""

_AT_ONCE = (0.0,)
_SEQUENCE_BYTES = 8
_END_OF_REPLAY = (-1).to_bytes(_SEQUENCE_BYTES, "big", signed=True)
_REPLAY_FRAMES = 3
_REPLAYED_IN_A_ROW = 64
"""Batches of a replay after which the event loop gets a turn."""
_LINGER_MS = 1000
"""How long batches that are under way may still take after `close`, like vLLM's timeout of its shutdown."""


class KVEventPublisher:
    """Publishes one rank's batches; nothing here ever waits for a subscriber.

    Make it inside the event loop that calls `publish`. A subscriber that falls `hwm` batches behind loses what comes
    until it has read some, and nobody else does; `num_overflows` counts how often that began. The next batch will have the
    number `next_sequence`.
    Raises UsageError where an endpoint cannot be had.
    """

    def __init__(
        self,
        config: KVEventsConfig,
        rank: int = 0,
        *,
        lora_ids: Mapping[str, int] | None = None,
        int_hashes: bool = True,
        deliver: Deliver = lambda _sequence: _AT_ONCE,
        call_later: CallLater | None = None,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        self.rank = rank
        self.next_sequence = 0
        self.num_overflows = 0
        self._lora_ids = {} if lora_ids is None else lora_ids
        self._int_hashes = int_hashes
        self._deliver = deliver
        self._topic = config.topic.encode()
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=config.buffer_steps)
        self._delayed: set[Timer] = set()
        self._loop = asyncio.get_running_loop()
        self._call_later = self._loop.call_later if call_later is None else call_later
        self._context = zmq.Context.instance() if context is None else context
        endpoint = rank_endpoint(config.endpoint, rank)
        replay_endpoint = config.replay_endpoint
        if replay_endpoint is not None:
            replay_endpoint = rank_endpoint(replay_endpoint, rank)
        self._publish_socket = self._context.socket(zmq.PUB)
        self._replay_socket: zmq.asyncio.Socket | None = None
        self._replay_task: asyncio.Task[None] | None = None
        try:
            endpoint = self._open_publish_socket(endpoint, config.hwm)
            if replay_endpoint is not None:
                replay_endpoint = self._open_replay_socket(replay_endpoint, config.buffer_steps)
        except BaseException:
            self._close_sockets()
            raise
        self.config = msgspec.structs.replace(config, endpoint=endpoint, replay_endpoint=replay_endpoint)

    def publish(self, timestamp_seconds: float, events: Sequence[KVCacheEvent]) -> None:
        """Send a batch of events that happened up to `timestamp_seconds`, in seconds since 1970."""
        sequence = self.next_sequence
        self.next_sequence += 1
        maps = [event_map(event, self._lora_ids, int_hashes=self._int_hashes) for event in events]
        payload = batch_bytes(timestamp_seconds, maps, self.rank)
        self._kept.append((sequence, payload))
        frames = self._frames(sequence, payload)
        for after_seconds in self._deliver(sequence):
            if after_seconds > 0:
                self._send_later(after_seconds, frames)
            else:
                self._send(frames)

    def start_over(self) -> None:
        """Count from 0 again and keep nothing, as a process that was started again."""
        self._drop_delayed()
        self.next_sequence = 0
        self._kept.clear()

    def serve_another(
        self, lora_ids: Mapping[str, int], deliver: Deliver, call_later: CallLater | None
    ) -> None:
        """Publish for another engine from now on: numbers and what is kept go on, what was still held back is lost."""
        self._drop_delayed()
        self._lora_ids = lora_ids
        self._deliver = deliver
        self._call_later = self._loop.call_later if call_later is None else call_later

    async def close(self) -> None:
        """Close the sockets; what was sent may linger for a second, what was still held back is lost."""
        self._drop_delayed()
        if self._replay_task is not None:
            self._replay_task.cancel()
            await asyncio.wait([self._replay_task])
        self._close_sockets()

    def _open_publish_socket(self, endpoint: str, high_water_mark: int) -> str:
        self._publish_socket.set_hwm(high_water_mark)
        self._publish_socket.linger = _LINGER_MS
        self._publish_socket.setsockopt(zmq.XPUB_NODROP, 1)
        if binds(endpoint):
            return bind(self._publish_socket, endpoint)
        connect(self._publish_socket, endpoint)
        return endpoint

    def _open_replay_socket(self, endpoint: str, num_kept: int) -> str:
        context: zmq.asyncio.Context = zmq.asyncio.Context.shadow(self._context)
        self._replay_socket = context.socket(zmq.ROUTER)
        # libzmq hears of what a peer has read only every half mark; twice lets a whole replay and its end fit.
        self._replay_socket.sndhwm = 2 * (num_kept + 1)
        self._replay_socket.linger = 0
        endpoint = bind(self._replay_socket, endpoint)
        self._replay_task = self._loop.create_task(self._serve_replays(self._replay_socket))
        return endpoint

    def _drop_delayed(self) -> None:
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()

    def _close_sockets(self) -> None:
        self._publish_socket.close()
        if self._replay_socket is not None:
            self._replay_socket.close()

    def _frames(self, sequence: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
        return self._topic, sequence.to_bytes(_SEQUENCE_BYTES, "big"), payload

    def _send_later(self, after_seconds: float, frames: Sequence[bytes]) -> None:
        def send() -> None:
            self._delayed.discard(timer)
            self._send(frames)

        timer = self._call_later(after_seconds, send)
        self._delayed.add(timer)

    def _send(self, frames: Sequence[bytes]) -> None:
        """Send without waiting. A subscriber that is full is told by ZeroMQ once, then it is skipped until it reads."""
        try:
            self._publish_socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self.num_overflows += 1
            self._publish_socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._publish_socket.send_multipart(frames, zmq.NOBLOCK)
            self._publish_socket.setsockopt(zmq.XPUB_NODROP, 1)

    async def _serve_replays(self, replay_socket: zmq.asyncio.Socket) -> None:
        while True:
            request = await replay_socket.recv_multipart()
            if len(request) == _REPLAY_FRAMES:
                client, _, first = request
                await self._replay(replay_socket, client, int.from_bytes(first, "big"))

    async def _replay(self, replay_socket: zmq.asyncio.Socket, client: bytes, first: int) -> None:
        wanted = [(sequence, payload) for sequence, payload in self._kept if sequence >= first]
        for number, (sequence, payload) in enumerate(wanted, start=1):
            await replay_socket.send_multipart((client, b"", *self._frames(sequence, payload)))
            if number % _REPLAYED_IN_A_ROW == 0:
                await asyncio.sleep(0)
        await replay_socket.send_multipart((client, b"", b"", _END_OF_REPLAY, b""))


def open_publisher(config: KVEventsConfig, rank: int = 0, **options: Any) -> KVEventPublisher | None:
    """Return the publisher of a rank, None where the config asks for none; options as of KVEventPublisher."""
    return KVEventPublisher(config, rank, **options) if config.publishes else None


def kv_event_sources(publishers: Sequence[KVEventPublisher]) -> dict[str, dict[str, Any]]:
    """Return what `GET /kv_event_sources` shows: for each rank where its events really are."""
    return {str(publisher.rank): msgspec.structs.asdict(publisher.config) for publisher in publishers}
