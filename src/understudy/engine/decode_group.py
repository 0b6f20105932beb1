"""Requests that do nothing but decode, advanced together: each costs work only when it enters or fills a block.

While a running request decodes, one schedule is like the next: it computes one token, takes a block when it enters
one, caches a block when it has filled it. So the counters of a request in the group are not touched step by step. They
are brought up to date when the request wakes, that is when it needs a block or has filled one, and when it leaves,
in time for its last step. All of it happens where a schedule is due, with `pipeline_depth - 1` steps in flight.

Every step in flight computes one token for each member, so members do not stand in `StepPlan.scheduled`; those who
join or leave are taken out of the plans in flight, or put in.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter

from understudy.engine.config import EngineConfig
from understudy.engine.hashing import BlockHasher
from understudy.engine.kv_cache import KVCacheManager
from understudy.engine.request import Request
from understudy.engine.step_plan import Sampler, StepPlan

in_order_of_admission = attrgetter("admission")
"""The key that sorts requests as they stand in the running batch."""


class DecodeGroup:
    """Decoding requests of one scheduler, its members.

    `context_tokens` is the sum of what they have computed, `steps` counts the schedules taken.
    """

    def __init__(
        self, config: EngineConfig, kv_cache: KVCacheManager, hasher: BlockHasher | None, sample: Sampler
    ) -> None:
        self.context_tokens = 0
        self.steps = 0
        self._kv_cache = kv_cache
        self._hasher = hasher
        self._sample = sample
        self._in_flight = config.pipeline_depth - 1
        self._size = config.block_size
        # The step up to which a member's own counters are true; in order of admission.
        self._true_at: dict[Request, int] = {}
        self._leaves: dict[int, list[Request]] = {}
        # Members by the step, modulo the block size, in which they take a block, and in which they wake.
        self._takers: list[list[Request]] = [[] for _ in range(config.block_size)]
        self._wakers = self._takers
        # A step in flight hides its token: then a block is known to be full only when the next one is taken.
        if hasher is not None and not self._in_flight and config.block_size > 1:
            self._wakers = [[] for _ in range(config.block_size)]

    def __len__(self) -> int:
        return len(self._true_at)

    def __contains__(self, request: Request) -> bool:
        return request in self._true_at

    @property
    def members(self) -> Collection[Request]:
        """All members, in the order of their admission."""
        return self._true_at.keys()

    @property
    def num_takers(self) -> int:
        """Blocks that the members take in the next step."""
        return len(self._takers[self.steps % self._size])

    @property
    def steps_to_leave(self) -> int:
        """Steps until a member leaves; there must be one."""
        return min(self._leaves) - self.steps

    def steps_with_room(self, count: int) -> int:
        """Return how many of the next `count` steps find a free block for everybody who takes one."""
        room = self._kv_cache.pool.num_free_blocks
        for index in range(count):
            room -= len(self._takers[(self.steps + index) % self._size])
            if room < 0:
                return index
        return count

    def steps_of(self, request: Request) -> int:
        """Return how many schedules a running request could take as a member, 0 if it does other things than decode."""
        in_flight = self._in_flight
        if (
            request.num_in_flight_tokens != in_flight
            or request.num_output_placeholders != in_flight
            or request.num_tokens + in_flight - request.num_computed_tokens != 1
            or request.num_computed_tokens < request.prefill_end
            or request.num_tokens == request.num_prompt_tokens
            or request.num_stale_output_tokens
            or not request.stops_by_length_only
        ):
            return 0
        # The step of the last token must stand in a plan, so that the request ends when it is completed.
        return request.end_tokens - request.num_tokens - 1

    def join(self, request: Request, plans: Iterable[StepPlan]) -> None:
        """Take in a request for which `steps_of` is positive, the last admitted of all members."""
        for plan in plans:
            del plan.scheduled[request]
            plan.num_grouped += 1
        self._true_at[request] = self.steps
        self._leaves.setdefault(self.steps + self.steps_of(request), []).append(request)
        self.context_tokens += request.num_computed_tokens
        for members, step in self._places(request, self.steps):
            members[step].append(request)

    def leave_when_due(self, plans: Sequence[StepPlan], last_token_ns: int | None) -> None:
        """Let go those whose last step comes next, or is in flight."""
        leavers = self._leaves.pop(self.steps, None)
        if leavers is not None:
            self._leave(leavers, plans, last_token_ns)

    def dissolve(self, plans: Sequence[StepPlan], last_token_ns: int | None) -> None:
        """Let all go."""
        self._leaves.clear()
        self._leave(list(self._true_at), plans, last_token_ns)

    def settle(self) -> None:
        """Give every member the tokens of all steps that were completed; the group is of no use afterwards."""
        for request, step in self._true_at.items():
            count = self.steps - step - 1
            request.append_output(self._sample(request, count) if request.needs_tokens else None, count)

    def waking(self) -> list[Request]:
        """Return the members who need the cache in the next step."""
        return self._wakers[self.steps % self._size]

    def wake(self, request: Request) -> None:
        """Give a member what it needs of the cache for the next step."""
        self._bring_up_to_date(request)
        has_room = self._kv_cache.extend(request, 1)
        assert has_room, "the caller checks for room"

    def advance(self) -> None:
        """Count a step as scheduled, and the one that leaves the pipeline for it as completed."""
        self.steps += 1
        self.context_tokens += len(self._true_at)

    def _leave(
        self, requests: Sequence[Request], plans: Sequence[StepPlan], last_token_ns: int | None
    ) -> None:
        for request in requests:
            self._bring_up_to_date(request)
            request.last_token_ns = last_token_ns
            self.context_tokens -= request.num_computed_tokens
            for members, step in self._places(request, self.steps):
                members[step].remove(request)
            del self._true_at[request]
        for plan in plans:
            plan.num_grouped -= len(requests)
            scheduled = {**plan.scheduled, **dict.fromkeys(requests, 1)}
            plan.scheduled = {
                request: scheduled[request] for request in sorted(scheduled, key=in_order_of_admission)
            }

    def _bring_up_to_date(self, request: Request) -> None:
        count = self.steps - self._true_at[request]
        if count == 0:
            return
        self._true_at[request] = self.steps
        request.append_output(self._sample(request, count) if request.needs_tokens else None, count)
        request.num_computed_tokens += count
        if self._hasher is not None:
            request.hash_full_blocks(self._hasher)

    def _places(self, request: Request, now: int) -> Iterator[tuple[list[list[Request]], int]]:
        """Yield where a member whose counters are true now is entered."""
        takes = (now - request.num_computed_tokens) % self._size
        yield self._takers, takes
        if self._wakers is not self._takers:
            yield self._wakers, takes
            yield self._wakers, (takes - 1) % self._size
