"""Sleep and pause: what an operator may stop, and what becomes of the requests meanwhile.

The rules are those of vllm/v1/engine/core.py and vllm/v1/executor/abstract.py, 0.33.0. A pause is the scheduler's; the
sleep of the memory is a set of tags beside it. `resume` ends a pause only; `wake_up` ends it too once all memory is back.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from aiohttp import web

from understudy.engine import PauseScope

PauseMode = Literal["abort", "wait", "keep"]
"""What becomes of requests in work: they end with reason "abort", they finish, or they stay as they are."""

MEMORY_TAGS = frozenset({"weights", "kv_cache"})
_SCHEDULING_TAG = "scheduling"

PAUSED_MESSAGE = "Generation is paused. Please retry after it resumes."
PAUSED_KIND = "ServiceUnavailableError"
"""What a request is told that comes during a pause, and the type of the error; its status is 503."""


class PausableFrontend(Protocol):
    """What a pause needs of the engines."""

    @property
    def is_idle(self) -> bool:
        """Whether no step is in flight, and none follows unless a request comes or the scope of the pause changes."""

    def set_pause(self, scope: PauseScope) -> None:
        """Let every scheduler leave alone what is in `scope` from its next step on; requests are still taken."""

    async def idle(self) -> None:
        """Wait until `is_idle`."""

    def abort_all(self) -> None:
        """End all requests with reason "abort" and count them as finished, those without any token too."""

    def reset_prefix_cache(self, *, reset_running_requests: bool = False) -> bool:
        """Forget the prefix caches, after preempting what runs if so asked."""


class PausedError(Exception):
    """A request came while new ones are turned away."""

    def __init__(self) -> None:
        super().__init__(PAUSED_MESSAGE)


class NotReadyError(Exception):
    """The engine is not in the state that an operation needs; the message is vLLM's."""


class Power:
    """Whether a server works, pauses or sleeps. `sleep_state` hears the level of sleep, None when fully awake."""

    def __init__(self, frontend: PausableFrontend, sleep_state: Callable[[int | None], None]) -> None:
        self._frontend = frontend
        self._sleep_state = sleep_state
        self._asleep: set[str] = set()
        self._is_paused = False
        self._turns_away = False

    @property
    def is_paused(self) -> bool:
        """Whether requests are not scheduled, or not all of them."""
        return self._is_paused

    @property
    def is_sleeping(self) -> bool:
        """Whether the server is paused, or some of its memory is given away."""
        return self._is_paused or bool(self._asleep)

    def check_accepts(self) -> None:
        """Raise PausedError where new requests are turned away: paused, unless by "keep". Asleep, they wait."""
        if self._turns_away:
            raise PausedError

    async def pause(self, mode: PauseMode = "abort", *, clear_cache: bool = True) -> None:
        """Stop generating and return when the engines are idle; "abort" and "wait" turn new requests away at once."""
        self._turns_away = mode != "keep"
        await self._pause(mode, clear_cache=clear_cache)

    def resume(self) -> None:
        """End a pause, whatever memory is away; requests that waited go on."""
        self._is_paused = False
        self._turns_away = False
        self._frontend.set_pause("none")

    async def sleep(self, level: int = 1, mode: PauseMode = "abort") -> None:
        """Pause, and above level 0 forget the caches and give memory away; requests that come wait for `wake_up`."""
        await self._pause(mode, clear_cache=level >= 1)
        if level >= 1 and "weights" not in self._asleep:
            self._asleep |= MEMORY_TAGS
        self._sleep_state(level)

    def wake_up(self, tags: Sequence[str] | None = None) -> bool:
        """Take memory back, all of it for None, and return whether all is back; only then requests go on.

        Where a tag names no memory that is away nothing is taken back.
        """
        memory_tags = None if tags is None else [tag for tag in tags if tag != _SCHEDULING_TAG]
        if memory_tags is None:
            self._asleep.clear()
        elif self._asleep.issuperset(memory_tags):
            self._asleep.difference_update(memory_tags)
        is_awake = not self._asleep
        if is_awake:
            self.resume()
            self._sleep_state(None)
        return is_awake

    def release_kv_cache_memory(self) -> None:
        """Give the memory of the KV cache away; raises NotReadyError unless a pause is complete and all memory there."""
        if not (self._is_paused and self._frontend.is_idle):
            raise NotReadyError("release_kv_cache_memory() requires a completed pause first")
        if self._asleep:
            raise NotReadyError("release_kv_cache_memory() requires all executor memory to be resident")
        self._clear_caches()
        self._asleep.add("kv_cache")
        self._sleep_state(0)

    async def _pause(self, mode: PauseMode, *, clear_cache: bool) -> None:
        if mode == "abort":
            self._frontend.abort_all()
        self._is_paused = True
        self._frontend.set_pause("all" if mode == "keep" else "new")
        await self._frontend.idle()
        if clear_cache:
            self._clear_caches()

    def _clear_caches(self) -> None:
        was_reset = self._frontend.reset_prefix_cache(reset_running_requests=True)
        assert was_reset, "nothing holds blocks once all that ran is preempted"


POWER: web.AppKey[Power] = web.AppKey("power", Power)
