"""Streams an answer while it grows: events go out from within the step, in order, and faults strike where they should."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from understudy.server.event_stream import EventStream
from understudy.server.faults import RequestFaults
from understudy.server.sample import Generation, Sample
from understudy.wire.sse import DONE, KEEP_ALIVE

_MOST_TOKENS_AT_ONCE = 256
"""Tokens whose events are written out in a few milliseconds at most, log probabilities included."""


class Growth:
    """What has come of one sample since the last event."""

    __slots__ = ("_pieces", "sample", "token_ids")

    def __init__(self, sample: Sample, token_ids: Sequence[int], text: str) -> None:
        self.sample = sample
        self.token_ids = token_ids
        self._pieces = [text]

    @property
    def text(self) -> str:
        """The new text."""
        pieces = self._pieces
        return pieces[0] if len(pieces) == 1 else "".join(pieces)

    def add(self, token_ids: Sequence[int], text: str) -> None:
        """Take what has come while nothing could be sent."""
        if isinstance(self.token_ids, list) and len(self._pieces) > 1:
            self.token_ids.extend(token_ids)
        else:
            self.token_ids = [*self.token_ids, *token_ids]
        self._pieces.append(text)


class EventWriter(Protocol):
    """Turns the growth of an answer into events."""

    def growth(self, growth: Growth) -> bytes:
        """Return the events for it; `growth.sample.finish_reason` is set if these are the last of the sample."""

    def end(self, generation: Generation) -> bytes:
        """Return the events behind the last sample, [DONE] included where there is one."""


class StreamedAnswer:
    """A listener that writes events. Where the client reads slowly, or a fault holds them back, they are put together."""

    __slots__ = (
        "_awaits_release",
        "_call_after",
        "_faults",
        "_has_stalled",
        "_is_cut",
        "_is_faultless",
        "_is_stalled",
        "_loop",
        "_num_tokens",
        "_pending",
        "_sent_seconds",
        "_stream",
        "_woken",
        "_writer",
    )

    def __init__(
        self,
        stream: EventStream,
        writer: EventWriter,
        faults: RequestFaults,
        *,
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._stream = stream
        self._writer = writer
        self._faults = faults
        self._is_faultless = faults.stall is None and faults.cut is None
        self._call_after = call_after
        self._pending: dict[int, Growth] = {}
        self._num_tokens = 0
        self._loop = asyncio.get_running_loop()
        self._sent_seconds = self._loop.time()
        self._is_stalled = False
        self._has_stalled = False
        self._is_cut = False
        self._awaits_release = False
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def grown(self, sample: Sample, token_ids: Sequence[int], text: str) -> None:
        """Take what is new of a sample."""
        pending = self._pending
        if self._is_faultless and not pending and not self._stream.is_congested:
            self._send(self._writer.growth(Growth(sample, token_ids, text)))
            return
        if self._stream.is_gone:
            pending.clear()
            return
        index = sample.order.index
        growth = pending.get(index)
        if growth is None:
            pending[index] = Growth(sample, token_ids, text)
        else:
            growth.add(token_ids, text)
        self._num_tokens += len(token_ids)
        self._strike()
        if not self._is_stalled and not self._stream.is_congested:
            self._flush(index)

    async def wait(self, generation: Generation, keep_alive_seconds: float) -> bool:
        """Wait for the end of all samples and write what is left of them; False if a fault cut the stream.

        Raises what the engine failed with.
        """
        self._strike()
        generation.done.add_done_callback(self._wake)
        await self._wait(keep_alive_seconds)
        if self._is_cut:
            return False
        generation.done.result()
        if self._is_stalled:
            self._awaits_release = True
            self._woken = self._loop.create_future()
            await self._wait(keep_alive_seconds)
        await self._flush_rest()
        return True

    def _wake(self, _done: object = None) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def _wait(self, keep_alive_seconds: float) -> None:
        """Wait for `_wake`; a comment goes out whenever no event has for so many seconds, 0 for never."""
        if not keep_alive_seconds:
            await self._woken
            return
        while True:
            timeout = max(0.0, self._sent_seconds + keep_alive_seconds - self._loop.time())
            sent_seconds = self._sent_seconds
            done, _ = await asyncio.wait({self._woken}, timeout=timeout)
            if done:
                return
            if self._sent_seconds == sent_seconds:
                self._send(KEEP_ALIVE)

    def _strike(self) -> None:
        """Let a stall or a cut begin, if its token has come."""
        stall, cut = self._faults.stall, self._faults.cut
        if stall is not None and not self._has_stalled and self._num_tokens >= stall.after_tokens:
            if self._num_tokens:
                self._flush_all()
            self._is_stalled = self._has_stalled = True
            if stall.stall_seconds is not None:
                self._call_after(stall.stall_seconds, self._release)
        if cut is not None and not self._is_cut and self._num_tokens >= cut.after_tokens:
            self._flush_all()
            self._is_stalled = True
            if cut.done:
                self._stream.send(DONE)
            self._is_cut = True
            self._wake()

    def _release(self) -> None:
        self._is_stalled = self._is_cut
        if not self._is_stalled:
            self._flush_all()
        if self._awaits_release:
            self._wake()

    def _flush(self, index: int) -> None:
        self._send(self._writer.growth(self._pending.pop(index)))

    async def _flush_rest(self) -> None:
        """Send what a slow client has not read yet; a long piece is written out in a thread."""
        for index in list(self._pending):
            growth = self._pending.pop(index)
            if len(growth.token_ids) > _MOST_TOKENS_AT_ONCE:
                self._send(await self._loop.run_in_executor(None, self._writer.growth, growth))
            else:
                self._send(self._writer.growth(growth))

    def _flush_all(self) -> None:
        for index in list(self._pending):
            self._flush(index)

    def _send(self, data: bytes) -> None:
        self._sent_seconds = self._loop.time()
        self._stream.send(data)
