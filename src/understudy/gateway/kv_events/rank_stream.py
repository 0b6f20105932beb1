"""The sockets of one rank's events: what comes is given to a Follower, what that asks for is asked of the worker.

Batches come over SUB, replays over DEALER in the form of vLLM's publisher: an empty frame and the first number wanted go out;
an empty frame, topic, number and payload come back for each batch, and the number -1 in the end. The sockets are read from
within the event loop when it sees that they have something, without a task. (vllm/distributed/kv_events.py, 0.33.0)
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from understudy.gateway.kv_events.follower import Follower
from understudy.gateway.kv_events.sources import Source
from understudy.gateway.kv_events.worker_blocks import WorkerBlocks
from understudy.wire.kv_event_reader import KVEventError, read_batch

REPLAY_SECONDS = 1.0
"""How long a replay may stand still before it is asked for once more."""

REPLAY_ATTEMPTS = 2
"""How often it is asked for while events are heard; as long as none are, it is asked for again and again."""

QUIET_SECONDS = 0.5
"""After so long without a batch the worker is asked whether there was one; then less and less often."""

MOST_QUIET_SECONDS = 8.0
HIGH_WATER_MARK = 1000
"""Batches that may wait in a socket. Then TCP holds them back; what the worker drops in the end is replayed."""

_BATCHES_A_TURN = 64
_BYTES_A_TURN = 256 * 1024
"""What is taken before the event loop gets a turn."""

_NUMBER_BYTES = 8
_END_OF_REPLAY = b"\xff" * _NUMBER_BYTES
_HEARTBEAT_MS = 5_000
_AGAIN_SECONDS = 0.2
_RECONNECT_MS = 100
_MOST_RECONNECT_MS = 400
_LIVE_FRAMES = 3
_REPLAY_FRAMES = 4

Context = zmq.Context[zmq.Socket[bytes]]


class ListAsker(Protocol):
    """Who asks the worker for a list of its blocks."""

    def ask_for(self, stream: "RankStream") -> None:
        """Call `stream.listed` or `stream.list_failed` later."""


class RankStream:
    """Hears one rank from `open` to `close`. `lost` is called when the connection is lost.

    Raises ValueError in `open` for an endpoint that is none. Batches of more than `max_batch_bytes` are not taken; the worker
    that sends one is disconnected.
    """

    def __init__(
        self,
        source: Source,
        blocks: WorkerBlocks,
        lists: ListAsker,
        lost: Callable[[], None],
        *,
        context: Context,
        max_batch_bytes: int,
    ) -> None:
        self.source = source
        self.is_connected = False
        self.num_batches = 0
        self.num_unreadable = 0
        self.follower = Follower(self, can_replay=source.replay_endpoint is not None, can_list=True)
        self._blocks = blocks
        self._lists = lists
        self._lost = lost
        self._context = context
        self._max_batch_bytes = max_batch_bytes
        self._loop = asyncio.get_running_loop()
        self._events: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._replays: zmq.Socket[bytes] | None = None
        self._replay_first: int | None = None
        self._replay_reached = -1
        self._replay_has_moved = False
        self._replay_attempts = 0
        self._replay_timer: asyncio.TimerHandle | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._again_timer: asyncio.TimerHandle | None = None
        self._quiet_seconds = QUIET_SECONDS
        self._batches_before = 0

    def open(self) -> None:
        """Connect, and catch up."""
        self._open_events()
        self._quiet_timer = self._loop.call_later(self._quiet_seconds, self._look_whether_quiet)
        self.follower.start()

    def close(self) -> None:
        """Hear nothing any more."""
        self._close_replays()
        self._close_events()
        for timer in (self._quiet_timer, self._again_timer):
            if timer is not None:
                timer.cancel()

    # -- what the follower asks for ------------------------------------------------------------------------

    def apply(self, payload: bytes) -> bool:
        """Take the next batch."""
        try:
            batch = read_batch(payload, with_tokens=self._blocks.wants_tokens)
        except KVEventError:
            self.num_unreadable += 1
            return False
        self._blocks.apply(self.source.rank, batch.events)
        return True

    def forget(self, *, started_over: bool) -> None:
        """Forget what the rank holds."""
        self._blocks.forget(self.source.rank, started_over=started_over)

    def replay(self, first: int) -> None:
        """Ask for a replay."""
        if self._replay_first is not None:
            self._close_replays()
        self._replay_first = first
        self._replay_reached = -1
        self._replay_attempts = 0
        self._ask_replay()

    def list_blocks(self) -> None:
        """Ask for a list."""
        self._lists.ask_for(self)

    def listed(self, blocks: Sequence[int], next_number: int) -> None:
        """Take a list that was asked for."""
        if self._events is not None:
            self._blocks.synchronise(self.source.rank, blocks)
            self.follower.listed(next_number)

    def list_failed(self, *, is_offered: bool) -> None:
        """Note that there is no list, or none now."""
        if self._events is not None:
            self.follower.can_list = is_offered
            self.follower.list_failed()

    # -- what comes ----------------------------------------------------------------------------------------

    def _read_monitor(self) -> None:
        while self._monitor is not None:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if parse_monitor_message(frames)["event"] == zmq.EVENT_DISCONNECTED:
                # A peer that breaks off before it has answered takes nothing away.
                if self.is_connected:
                    self.is_connected = False
                    self._blocks.look_again()
                    self.follower.unsure()
                    self._lost()
                self._again_timer = self._loop.call_later(_AGAIN_SECONDS, self._connect_again)
            else:
                self.is_connected = True
                self.follower.can_list = True
                if self._replay_attempts:
                    self._replay_attempts = 0
                    self._close_replays()
                    self._ask_replay()

    def _read_events(self) -> None:
        # A lost connection is seen before what comes over the next one.
        self._read_monitor()
        taken_bytes = 0
        for _ in range(_BATCHES_A_TURN):
            if self._events is None:
                return
            try:
                frames = self._events.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if (
                len(frames) == _LIVE_FRAMES
                and frames[0] == self.source.topic
                and len(frames[1]) == _NUMBER_BYTES
            ):
                self.num_batches += 1
                self.follower.live(int.from_bytes(frames[1], "big"), frames[2])
            taken_bytes += sum(map(len, frames))
            if taken_bytes > _BYTES_A_TURN:
                break
        self._loop.call_soon(self._read_events)

    def _read_replays(self) -> None:
        taken_bytes = 0
        for _ in range(_BATCHES_A_TURN):
            if self._replays is None:
                return
            try:
                frames = self._replays.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take_replayed(frames)
            taken_bytes += sum(map(len, frames))
            if taken_bytes > _BYTES_A_TURN:
                break
        self._loop.call_soon(self._read_replays)

    def _take_replayed(self, frames: list[bytes]) -> None:
        if len(frames) != _REPLAY_FRAMES or len(frames[2]) != _NUMBER_BYTES or self._replay_first is None:
            return
        if frames[2] == _END_OF_REPLAY:
            self._replay_first = None
            self._cancel_replay_timer()
            self.follower.replay_ended()
        else:
            number = int.from_bytes(frames[2], "big")
            # One that has come in an attempt before is no progress.
            if number > self._replay_reached:
                self._replay_reached = number
                self._replay_has_moved = True
            self.follower.replayed(number, frames[3])

    # -- time passes ---------------------------------------------------------------------------------------

    def _ask_replay(self) -> None:
        assert self._replay_first is not None, "somebody asked"
        if self._replays is None:
            self._replays = self._socket(zmq.DEALER)
            self._connect(self._replays, self.source.replay_endpoint or "")
            self._loop.add_reader(self._replays.fileno(), self._read_replays)
        self._replays.send_multipart((b"", self._replay_first.to_bytes(_NUMBER_BYTES, "big")), zmq.NOBLOCK)
        # Sending may have used up the sign that something has come.
        self._loop.call_soon(self._read_replays)
        self._replay_has_moved = False
        self._replay_timer = self._loop.call_later(REPLAY_SECONDS, self._look_after_replay)

    def _look_after_replay(self) -> None:
        if self._replay_has_moved:
            self._replay_has_moved = False
            self._replay_timer = self._loop.call_later(REPLAY_SECONDS, self._look_after_replay)
            return
        self._close_replays()
        self._replay_attempts += 1
        if self.is_connected and self._replay_attempts >= REPLAY_ATTEMPTS:
            self._replay_first = None
            self._replay_attempts = 0
            self.follower.replay_failed()
        else:
            self._ask_replay()

    def _look_whether_quiet(self) -> None:
        if self.num_batches != self._batches_before:
            self._batches_before = self.num_batches
            self._quiet_seconds = QUIET_SECONDS
        else:
            self._quiet_seconds = min(2 * self._quiet_seconds, MOST_QUIET_SECONDS)
            self._connect_again()
            self.follower.quiet()
        self._quiet_timer = self._loop.call_later(self._quiet_seconds, self._look_whether_quiet)

    def _connect_again(self) -> None:
        """Take a new socket if there is no connection: ZeroMQ gives up on peers that break its protocol or its limits."""
        if self._events is not None and not self.is_connected:
            self._close_events()
            self._open_events()

    # -- sockets -------------------------------------------------------------------------------------------

    def _socket(self, kind: int) -> "zmq.Socket[bytes]":
        opened: zmq.Socket[Any] = self._context.socket(kind)
        opened.linger = 0
        opened.set_hwm(HIGH_WATER_MARK)
        opened.setsockopt(zmq.MAXMSGSIZE, self._max_batch_bytes)
        opened.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        opened.setsockopt(zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS)
        return opened

    def _connect(self, opened: "zmq.Socket[bytes]", endpoint: str) -> None:
        opened.setsockopt(zmq.IPV6, int("[" in endpoint))
        try:
            opened.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(f"{endpoint}: {error.strerror}") from error

    def _open_events(self) -> None:
        self._events = events = self._socket(zmq.SUB)
        self._monitor = monitor = events.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        events.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        events.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2 * _HEARTBEAT_MS)
        events.subscribe(self.source.topic)
        self._connect(events, self.source.endpoint)
        self._loop.add_reader(monitor.fileno(), self._read_monitor)
        self._loop.add_reader(events.fileno(), self._read_events)
        self._loop.call_soon(self._read_events)

    def _close_events(self) -> None:
        if self._events is not None and self._monitor is not None:
            self._loop.remove_reader(self._monitor.fileno())
            self._loop.remove_reader(self._events.fileno())
            self._events.disable_monitor()
            self._monitor.close(linger=0)
            self._events.close(linger=0)
        self._events = self._monitor = None

    def _close_replays(self) -> None:
        self._cancel_replay_timer()
        if self._replays is not None:
            self._loop.remove_reader(self._replays.fileno())
            self._replays.close(linger=0)
            self._replays = None

    def _cancel_replay_timer(self) -> None:
        if self._replay_timer is not None:
            self._replay_timer.cancel()
            self._replay_timer = None
