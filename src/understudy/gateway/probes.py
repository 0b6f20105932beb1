"""Asks one worker how it is, again and again: one question at a time, each bounded in time and in bytes.

What a worker says may be wrong, late or endless: then this answer tells nothing, and the next one is asked for in its turn.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from time import monotonic_ns
from typing import Protocol

from understudy.engine import LoRA
from understudy.errors import InputError
from understudy.gateway.kv_events.hash_check import HashCheck
from understudy.gateway.kv_lists import ask_kv_blocks
from understudy.gateway.served_models import read_models
from understudy.gateway.source_state import SourceChanged, SourceState
from understudy.gateway.worker_http import NoAnswerError, WorkerHttp
from understudy.gateway.worker_load import read_load
from understudy.wire.kv_blocks import BlockList

QUESTION_SECONDS = 2.0
MODELS_SECONDS = 30.0
"""Time between two looks at the models that a worker serves."""

MOST_PAGE_BYTES = 4 * 1024 * 1024
"""Longest page of metrics, and longest list of models."""

_MOST_HEALTH_BYTES = 64 * 1024
_OK = 200


class ProbeSink(Protocol):
    """Who hears what workers say of themselves, by their slots."""

    def probed(self, slot: int, *, passed: bool) -> None:
        """Note whether a worker said that it is well."""

    def reported(self, slot: int, running: int, waiting: int, kv_usage: float, at_ns: int) -> None:
        """Note the load of a worker as it was at `at_ns`, of `time.monotonic_ns`; all ranks together."""

    def models(self, slot: int, models: Mapping[str, LoRA | None]) -> None:
        """Note what a worker serves, where that has changed; None for the model itself, else an adapter."""

    def synchronised(self, slot: int, hashes: Sequence[int]) -> None:
        """Note all blocks that a worker holds, a hash once for each copy."""


class WorkerProbe:
    """Asks the worker in a slot from `start` to `close`; make it in the event loop.

    As long as `lists_blocks` is true a list of all blocks is asked for every `synchronisation_seconds`, and `lists_changed`
    hears what those lists are good for; `check` compares how they cut and hash blocks. `random` spreads the first questions.
    """

    def __init__(
        self,
        slot: int,
        http: WorkerHttp,
        sink: ProbeSink,
        check: HashCheck,
        lists_changed: SourceChanged,
        *,
        heartbeat_seconds: float,
        synchronisation_seconds: float,
        max_blocks: int,
        random: Random,
    ) -> None:
        self.lists_blocks = False
        self.list_state = SourceState.UNKNOWN
        self._slot = slot
        self._http = http
        self._sink = sink
        self._check = check
        self._lists_changed = lists_changed
        self._heartbeat_seconds = heartbeat_seconds
        self._synchronisation_seconds = synchronisation_seconds
        self._max_blocks = max_blocks
        self._first_seconds = random.random() * heartbeat_seconds
        self._models: Mapping[str, LoRA | None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.get_running_loop().create_task(self._ask_again_and_again())

    async def close(self) -> None:
        """Ask nothing more; the sink hears nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _ask_again_and_again(self) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(self._first_seconds)
        models = _Due(MODELS_SECONDS, now)
        lists = _Due(self._synchronisation_seconds, now)
        while True:
            begun = now()
            if await self._ask_health():
                await self._ask_load()
                if models.is_due:
                    models.done(well=await self._ask_models())
                if self.lists_blocks and lists.is_due:
                    lists.done(well=await self._ask_list())
            else:
                # Whoever comes back may be another one.
                models.reset()
                lists.reset()
            await asyncio.sleep(max(begun + self._heartbeat_seconds - now(), 0))

    async def _ask_health(self) -> bool:
        try:
            answer = await self._http.get("/health", seconds=QUESTION_SECONDS, most_bytes=_MOST_HEALTH_BYTES)
            passed = answer.status == _OK
        except NoAnswerError:
            passed = False
        self._sink.probed(self._slot, passed=passed)
        return passed

    async def _ask_load(self) -> None:
        at_ns = monotonic_ns()
        try:
            answer = await self._http.get("/metrics", seconds=QUESTION_SECONDS, most_bytes=MOST_PAGE_BYTES)
        except NoAnswerError:
            return
        load = read_load(answer.body) if answer.status == _OK else None
        if load is not None:
            self._sink.reported(self._slot, *load, at_ns)

    async def _ask_models(self) -> bool:
        try:
            answer = await self._http.get("/v1/models", seconds=QUESTION_SECONDS, most_bytes=MOST_PAGE_BYTES)
            models = read_models(answer.body) if answer.status == _OK else None
        except InputError:
            return False
        if models is not None and models != self._models:
            self._models = models
            self._sink.models(self._slot, models)
        return models is not None

    async def _ask_list(self) -> bool:
        at_ns = monotonic_ns()
        try:
            listed = await ask_kv_blocks(self._http, self._max_blocks)
        except InputError:
            return False
        if not self.lists_blocks:
            return True
        if listed is None:
            self._become(SourceState.ABSENT, "offers no list of its blocks: /kv_blocks cannot be had")
            return True
        self._check.reset()
        self._check.look_at_list(listed)
        if self._check.differs:
            self._become(SourceState.DIFFERS, self._check.sentence)
            return True
        self._become(SourceState.FOLLOWED, None)
        self._sink.synchronised(self._slot, listed.blocks)
        self._report_load(listed, at_ns)
        return True

    def _report_load(self, listed: BlockList, at_ns: int) -> None:
        ranks = listed.ranks
        if ranks:
            self._sink.reported(
                self._slot,
                sum(rank.running for rank in ranks),
                sum(rank.waiting for rank in ranks),
                sum(rank.kv_usage for rank in ranks) / len(ranks),
                at_ns,
            )

    def _become(self, state: SourceState, sentence: str | None) -> None:
        if state is not self.list_state:
            self.list_state = state
            self._lists_changed(self._slot, state, sentence)


class _Due:
    """Whether it is time for something that is done every so many seconds, and at once where it has failed."""

    def __init__(self, every_seconds: float, now: Callable[[], float]) -> None:
        self._every_seconds = every_seconds
        self._now = now
        self._next = -1.0

    @property
    def is_due(self) -> bool:
        return self._now() >= self._next

    def done(self, *, well: bool) -> None:
        """Note that it was done; if not well, it is due with the next heartbeat."""
        if well:
            self._next = self._now() + self._every_seconds

    def reset(self) -> None:
        self._next = -1.0
