"""All that a router hears of one worker, and which of its sources says what the worker holds.

KV events tell it exactly, a list of all blocks as of some seconds ago; where a worker offers neither, or hashes otherwise than
the router, there is only the router's own record of what it sent. So it is where tokens differ: then no prefix of the
worker's can be found, however exactly it is known.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import aiohttp

from understudy.engine import LoRA
from understudy.gateway.fleet import Fleet
from understudy.gateway.kv_events import EventSubscriber, HashCheck
from understudy.gateway.kv_events.rank_stream import Context
from understudy.gateway.kv_events.tokenizer_check import tokenizer_agrees
from understudy.gateway.member import Member
from understudy.gateway.probes import WorkerProbe
from understudy.gateway.settings import RouteSettings
from understudy.gateway.source_state import SourceState
from understudy.gateway.worker_http import NoAnswerError, WorkerHttp
from understudy.routing import Health, Knowledge
from understudy.tokenize import Tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsTools:
    """What all workers' news have in common."""

    settings: RouteSettings
    session: aiohttp.ClientSession
    tokenizer: Tokenizer
    chat_template: str | None
    context: Context
    random: Random
    on_changed: Callable[[], None]
    """Called when more has become known of a worker than before."""


class News:
    """The news of one member; make it in the event loop. `notes` says what a user might want to change."""

    def __init__(self, fleet: Fleet, member: Member, tools: NewsTools) -> None:
        self._fleet = fleet
        self._member = member
        self._tools = tools
        self._notes: dict[str, str] = {}
        self._was_well = True
        self._has_left = False
        self._told_health = Health.STARTING
        self._offered = Knowledge.OWN
        """The best source that the worker offers."""
        self._has_other_tokens = False
        self._tokens_are_compared = False
        settings = tools.settings
        http = WorkerHttp(member.name, tools.session, settings.worker_api_key)
        self._http = http
        self._subscriber: EventSubscriber | None = None
        if settings.knowledge in {"auto", "events"}:
            self._subscriber = EventSubscriber(
                member.slot,
                http,
                self,
                self._hash_check(),
                self._events_changed,
                context=tools.context,
                max_blocks=settings.max_blocks_per_worker,
            )
        self._probe = WorkerProbe(
            member.slot,
            http,
            self,
            self._hash_check(),
            self._lists_changed,
            heartbeat_seconds=settings.heartbeat_seconds,
            synchronisation_seconds=settings.synchronisation_seconds,
            max_blocks=settings.max_blocks_per_worker,
            random=tools.random,
        )
        self._probe.lists_blocks = settings.knowledge == "heartbeat"
        self._tokenizer_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen and to ask."""
        self._probe.start()
        if self._subscriber is not None:
            self._subscriber.start()

    def left(self) -> None:
        """Tell the fleet nothing more of a worker that leaves it."""
        self._has_left = True

    async def close(self) -> None:
        """Hear nothing any more; the worker has left."""
        assert self._has_left
        if self._tokenizer_task is not None:
            self._tokenizer_task.cancel()
        await self._probe.close()
        if self._subscriber is not None:
            await self._subscriber.close()

    @property
    def notes(self) -> list[str]:
        """Sentences about what is not as it could be."""
        return list(self._notes.values())

    @property
    def is_settled(self) -> bool:
        """Whether it is known how the worker is, and from where what it holds."""
        subscriber = self._subscriber
        if self._has_other_tokens:
            return True
        if subscriber is not None and subscriber.state is SourceState.UNKNOWN:
            return False
        if subscriber is not None and subscriber.state is SourceState.FOLLOWED:
            return subscriber.figures.is_complete
        return not self._probe.lists_blocks or self._probe.list_state is not SourceState.UNKNOWN

    # -- what the probe says -------------------------------------------------------------------------------

    def probed(self, _slot: int, *, passed: bool) -> None:
        """Note whether the worker said that it is well; one that comes back may be another one."""
        if self._has_left:
            return
        if passed and not self._was_well and self._subscriber is not None:
            self._subscriber.verify()
        self._see_to_tokens(passed=passed)
        self._was_well = passed
        self._fleet.probed(self._member, passed=passed)
        self._tell_health()
        self._tools.on_changed()

    def reported(self, slot: int, running: int, waiting: int, kv_usage: float, at_ns: int) -> None:
        """Note the worker's load."""
        if not self._has_left:
            self._fleet.state.reported(slot, running, waiting, kv_usage, at_ns)

    def models(self, _slot: int, models: Mapping[str, LoRA | None]) -> None:
        """Note what the worker serves."""
        if not self._has_left:
            self._fleet.serves(self._member, models)

    # -- what it holds -------------------------------------------------------------------------------------

    def stored(self, slot: int, hashes: Sequence[int]) -> None:
        """Note blocks that the worker has cached."""
        if self._takes_blocks:
            self._fleet.state.stored(slot, hashes)

    def removed(self, slot: int, hashes: Sequence[int]) -> None:
        """Note blocks of which the worker has dropped a copy."""
        if self._takes_blocks:
            self._fleet.state.removed(slot, hashes)

    def cleared(self, slot: int) -> None:
        """Note that nothing is known to be held."""
        if self._takes_blocks:
            self._fleet.state.cleared(slot)

    def synchronised(self, slot: int, hashes: Sequence[int]) -> None:
        """Note all that the worker holds."""
        if self._takes_blocks:
            self._fleet.state.synchronised(slot, hashes)
            self._tools.on_changed()

    @property
    def _takes_blocks(self) -> bool:
        return not (self._has_left or self._has_other_tokens)

    def cache_was_reset(self) -> None:
        """Forget what the worker held: its events tell of a reset with its next step only, and its lists later still."""
        slot, state = self._member.slot, self._fleet.state
        if self._has_left:
            return
        knowledge = state.knowledge_of(slot)
        if knowledge is Knowledge.EVENTS and self._subscriber is not None:
            self._subscriber.forget_blocks()
        elif knowledge is not None:
            state.set_knowledge(slot, knowledge)

    # -- which source counts -------------------------------------------------------------------------------

    def _events_changed(self, _slot: int, state: SourceState, sentence: str | None) -> None:
        if state is SourceState.FOLLOWED:
            self._probe.lists_blocks = False
            self._learn_from(Knowledge.EVENTS)
        else:
            self._learn_from(Knowledge.OWN)
            self._probe.lists_blocks = self._tools.settings.knowledge == "auto"
            self._probe.list_state = SourceState.UNKNOWN
        self._note("events", sentence, self._level(state))

    def _lists_changed(self, _slot: int, state: SourceState, sentence: str | None) -> None:
        is_followed = state is SourceState.FOLLOWED
        self._learn_from(Knowledge.HEARTBEAT if is_followed else Knowledge.OWN)
        self._note("lists", sentence, self._level(state))

    def _learn_from(self, knowledge: Knowledge) -> None:
        self._offered = knowledge
        self._use_what_counts()

    def _use_what_counts(self) -> None:
        if self._has_left:
            return
        knowledge = Knowledge.OWN if self._has_other_tokens else self._offered
        if self._fleet.state.knowledge_of(self._member.slot) is not knowledge:
            self._fleet.state.set_knowledge(self._member.slot, knowledge)
        self._tools.on_changed()

    # -- whether tokens are the same -----------------------------------------------------------------------

    def _see_to_tokens(self, *, passed: bool) -> None:
        """Compare tokens when the worker is well, until it has answered; and again after it was not."""
        if not passed:
            self._tokens_are_compared = False
            if self._tokenizer_task is not None:
                self._tokenizer_task.cancel()
                self._tokenizer_task = None
        elif not self._tokens_are_compared and self._tokenizer_task is None:
            self._tokenizer_task = asyncio.get_running_loop().create_task(self._compare_tokenizers())

    async def _compare_tokenizers(self) -> None:
        try:
            sentence = await tokenizer_agrees(self._http, self._tools.tokenizer, self._tools.chat_template)
        except NoAnswerError:
            self._tokenizer_task = None
            return
        self._tokenizer_task = None
        self._tokens_are_compared = True
        self._note("tokenizer", sentence)
        has_differed, self._has_other_tokens = self._has_other_tokens, sentence is not None
        if has_differed != self._has_other_tokens:
            self._use_what_counts()
            if has_differed and self._subscriber is not None:
                self._subscriber.learn_anew()

    def _hash_check(self) -> HashCheck:
        settings = self._tools.settings
        return HashCheck(
            settings.prefix_caching_hash_algo,
            settings.block_size,
            settings.hash_seed,
            self._adapter,
        )

    def _tell_health(self) -> None:
        """Log what has become of the worker since the last look."""
        health = self._fleet.health_of(self._member)
        before, self._told_health = self._told_health, health
        is_first = before is Health.STARTING and health is Health.HEALTHY
        if health is not before and not is_first:
            _log.info("The worker %s is %s", self._member.name, health)

    def _adapter(self, name: str) -> LoRA | None:
        return self._fleet.adapters.get(name)

    def _level(self, state: SourceState) -> int:
        """Return how loud to be: that a worker lacks one of several sources is no reason for concern."""
        is_normal = state is SourceState.ABSENT and self._tools.settings.knowledge == "auto"
        return logging.INFO if is_normal else logging.WARNING

    def _note(self, topic: str, sentence: str | None, level: int = logging.WARNING) -> None:
        """Say once what has become known."""
        if sentence is None:
            self._notes.pop(topic, None)
            return
        note = f"The worker {self._member.name} {sentence}."
        if self._notes.get(topic) != note:
            self._notes[topic] = note
            _log.log(level, "%s", note)
