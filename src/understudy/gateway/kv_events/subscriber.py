"""Hears the KV events of one worker: finds out where they are, follows each rank, and says whether they can be used."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

import zmq

from understudy.errors import InputError
from understudy.gateway.kv_events.hash_check import HashCheck
from understudy.gateway.kv_events.knock import Knock
from understudy.gateway.kv_events.rank_stream import Context, RankStream
from understudy.gateway.kv_events.sources import Source, read_sources
from understudy.gateway.kv_events.worker_blocks import BlockSink, WorkerBlocks
from understudy.gateway.kv_lists import ask_kv_blocks
from understudy.gateway.source_state import SourceChanged, SourceState
from understudy.gateway.worker_http import NoAnswerError, WorkerHttp
from understudy.wire.kv_blocks import BlockList

MAX_BATCH_BYTES = 1024 * 1024

REACH_SECONDS = 5.0
"""How long a worker that answers may be without a connection for its events before they count as absent; in real time,
for ZeroMQ connects in a thread of its own.
"""

_SOURCES_SECONDS = 5.0
_MOST_SOURCES_BYTES = 1024 * 1024
_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 30.0
_SOCKETS = 65_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFigures:
    """What has been counted of one worker since its sources were found.

    `is_complete`: all that the worker holds is known, as far as it has told; `num_losses`: how often it became unknown and
    was forgotten, `num_repeated`: batches that came late or twice.
    """

    is_connected: bool
    is_complete: bool
    num_batches: int
    num_unreadable: int
    num_gaps: int
    num_losses: int
    num_restarts: int
    num_repeated: int


def event_context() -> Context:
    """Return a ZeroMQ context for the sockets of a whole fleet, to be terminated by its maker when all are closed."""
    context: Context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, _SOCKETS)
    return context


class EventSubscriber:
    """Hears the worker in a slot from `start` to `close`; make it in the event loop.

    At most `max_blocks` blocks of each rank are kept, batches of more than `max_batch_bytes` are not taken.
    """

    def __init__(
        self,
        slot: int,
        http: WorkerHttp,
        sink: BlockSink,
        check: HashCheck,
        changed: SourceChanged,
        *,
        context: Context,
        max_blocks: int,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self.state = SourceState.UNKNOWN
        self._slot = slot
        self._http = http
        self._host = urlsplit(http.url).hostname or ""
        self._sink = sink
        self._check = check
        self._changed = changed
        self._context = context
        self._max_blocks = max_blocks
        self._max_batch_bytes = max_batch_bytes
        self._blocks: WorkerBlocks | None = None
        self._streams: Sequence[RankStream] = ()
        self._sources: Sequence[Source] = ()
        self._knocks: Sequence[Knock] = ()
        self._unreached_since_seconds = 0.0
        self._look_again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._list_task: asyncio.Task[None] | None = None
        self._wait_for_list: list[RankStream] = []

    def start(self) -> None:
        """Begin to look for events."""
        self._task = asyncio.get_running_loop().create_task(self._find_sources())

    async def close(self) -> None:
        """Hear nothing any more; the sink is told nothing more."""
        tasks = [task for task in (self._task, self._list_task) if task is not None]
        for task in tasks:
            task.cancel()
        self._close_streams()
        if tasks:
            await asyncio.wait(tasks)

    def verify(self) -> None:
        """Make sure that what is known is still so: for whoever has seen the worker fail and come back."""
        self._look_again.set()
        for stream in self._streams:
            stream.follower.unsure()

    def learn_anew(self) -> None:
        """Learn all that the worker holds once more: for whoever has passed over what was told."""
        if self.state is SourceState.FOLLOWED:
            self._close_streams()
            self._look_again.set()

    def forget_blocks(self) -> None:
        """Forget what the worker holds: for whoever knows that it has dropped all, of which its events tell later."""
        if self._blocks is not None:
            self._blocks.clear()

    @property
    def figures(self) -> EventFigures:
        """What has been counted so far."""
        streams = self._streams
        followers = [stream.follower for stream in streams]
        return EventFigures(
            is_connected=self._is_connected,
            is_complete=bool(streams)
            and all(follower.is_complete and not follower.is_behind for follower in followers),
            num_batches=sum(stream.num_batches for stream in streams),
            num_unreadable=sum(stream.num_unreadable for stream in streams),
            num_gaps=sum(follower.num_gaps for follower in followers),
            num_losses=sum(follower.num_losses for follower in followers),
            num_restarts=sum(follower.num_restarts for follower in followers),
            num_repeated=sum(follower.num_repeated for follower in followers),
        )

    @property
    def _is_connected(self) -> bool:
        return bool(self._streams) and all(stream.is_connected for stream in self._streams)

    # -- where events are ----------------------------------------------------------------------------------

    async def _find_sources(self) -> None:
        """Look for the worker's sources now, after each loss of a connection, and now and then."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            self._look_again.clear()
            try:
                answer = await self._http.get(
                    "/kv_event_sources", seconds=_SOURCES_SECONDS, most_bytes=_MOST_SOURCES_BYTES
                )
                has_answered = self._take_sources(answer.status, answer.body)
            except NoAnswerError:
                has_answered = False
            if has_answered:
                retry_seconds = _FIRST_RETRY_SECONDS
                is_in_doubt = bool(self._streams) and not self._is_connected
                await self._wait(REACH_SECONDS if is_in_doubt else _LOOK_AGAIN_SECONDS)
                # A worker whose connections break again and again is not asked as often.
                await asyncio.sleep(_FIRST_RETRY_SECONDS)
            else:
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2 * retry_seconds, _LAST_RETRY_SECONDS)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look_again.wait()

    def _take_sources(self, status: int, body: bytes) -> bool:
        """Follow what an answer tells of; False if it tells nothing, as while a worker starts."""
        if status >= 500:
            return False
        try:
            sources = _read_answer(status, body, self._host)
            is_reached_again = bool(self._knocks) and all(knock.is_reached for knock in self._knocks)
            if sources != self._sources or is_reached_again:
                self._follow(sources)
            elif not self._is_connected and monotonic() - self._unreached_since_seconds >= REACH_SECONDS:
                self._knock(sources)
        except InputError as error:
            self._close_streams()
            self._become(SourceState.ABSENT, str(error))
        return True

    def _follow(self, sources: Sequence[Source]) -> None:
        self._close_streams()
        self._check.reset()
        self._become(SourceState.FOLLOWED, None)
        self._blocks = WorkerBlocks(
            self._slot,
            self._sink,
            [source.rank for source in sources],
            self._check,
            self._judged,
            max_blocks=self._max_blocks,
        )
        self._sources = sources
        self._unreached_since_seconds = monotonic()
        self._streams = [
            RankStream(
                source,
                self._blocks,
                self,
                self._lost,
                context=self._context,
                max_batch_bytes=self._max_batch_bytes,
            )
            for source in sources
        ]
        for stream in self._streams:
            try:
                stream.open()
            except ValueError as error:
                raise InputError(f"publishes KV events where they cannot be heard: {error}") from None

    def _lost(self) -> None:
        self._unreached_since_seconds = monotonic()
        self._look_again.set()

    def _knock(self, sources: Sequence[Source]) -> None:
        """Follow no more what cannot be reached, until it can be."""
        unreached = [stream.source.endpoint for stream in self._streams if not stream.is_connected]
        self._close_streams()
        self._sources = sources
        if unreached:
            sentence = f"publishes KV events at {unreached[0]}, which cannot be reached from here"
            self._become(SourceState.ABSENT, sentence)
        self._knocks = [Knock(source.endpoint, self._knocked, context=self._context) for source in sources]

    def _knocked(self) -> None:
        if all(knock.is_reached for knock in self._knocks):
            self._look_again.set()

    def _close_streams(self) -> None:
        for knock in self._knocks:
            knock.close()
        for stream in self._streams:
            stream.close()
        if self._blocks is not None:
            self._blocks.clear()
        self._streams = self._sources = ()
        self._knocks = ()
        self._blocks = None

    def _judged(self) -> None:
        if self._check.differs:
            self._become(SourceState.DIFFERS, self._check.sentence)
        else:
            self._become(SourceState.FOLLOWED, None)

    def _become(self, state: SourceState, sentence: str | None) -> None:
        if state is not self.state:
            self.state = state
            self._changed(self._slot, state, sentence)

    # -- lists of blocks -----------------------------------------------------------------------------------

    def ask_for(self, stream: RankStream) -> None:
        """Ask for a list of all blocks; one answer serves all ranks that wait."""
        self._wait_for_list.append(stream)
        if self._list_task is None:
            self._list_task = asyncio.get_running_loop().create_task(self._ask_for_list())

    async def _ask_for_list(self) -> None:
        listed: BlockList | None = None
        is_offered = True
        try:
            listed = await ask_kv_blocks(self._http, self._max_blocks)
            is_offered = listed is not None
        except InputError:
            listed = None
        self._list_task = None
        waiting, self._wait_for_list = self._wait_for_list, []
        ranks = {} if listed is None else {rank.rank: rank for rank in listed.ranks}
        for stream in waiting:
            rank = ranks.get(stream.source.rank)
            if rank is None or rank.sequence is None:
                stream.list_failed(is_offered=is_offered)
            else:
                stream.listed(rank.blocks, rank.sequence)


def _read_answer(status: int, body: bytes, worker_host: str) -> list[Source]:
    """Return the sources in an answer; raises InputError where there are none."""
    if status in {401, 403}:
        raise InputError(
            f"wants an API key for /kv_event_sources (status {status}): --worker-api-key gives one"
        )
    if status != 200:
        raise InputError(f"does not tell where its KV events are: /kv_event_sources has status {status}")
    sources = read_sources(body, worker_host)
    if not sources:
        raise InputError(
            "publishes no KV events; vLLM does with enable_kv_cache_events in its --kv-events-config"
        )
    return sources
