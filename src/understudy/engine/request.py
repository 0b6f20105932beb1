"""One request as the engine sees it: its tokens, how far it is computed, and when things happened to it."""

from collections.abc import Iterable, Sequence
from enum import Enum

from understudy.engine.block_pool import Holding
from understudy.engine.hash_chain import HashChain
from understudy.engine.hashing import BlockHasher, CacheIdentity
from understudy.engine.prompt import Prompt, TokenPrompt

_NO_IDENTITY = CacheIdentity()
_ANONYMOUS_BLOCKS = 1 << 24


class RequestStatus(Enum):
    """Where a request stands; vLLM's names."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED_STOPPED = "stop"
    FINISHED_LENGTH_CAPPED = "length"
    FINISHED_ABORTED = "abort"

    @property
    def is_finished(self) -> bool:
        """Whether the request will never compute again."""
        return self not in _UNFINISHED


_UNFINISHED = (RequestStatus.RUNNING, RequestStatus.WAITING, RequestStatus.PREEMPTED)


class Request:
    """A request between `Scheduler.add` and its end.

    `serial` is unique in a run; it names the blocks that hold tokens nobody knows. `admission` numbers the latest
    admission among all of the engine's, which is the order of the running batch. `arrival_time` only orders
    requests of equal priority. `prefill_start` to `prefill_end` are the tokens that
    the latest admission has to compute before the request decodes. The scheduler owns the counters, KVCacheManager the blocks, the engine the
    times (integer nanoseconds, None until they happen).
    """

    __slots__ = (
        "admission",
        "arrival_time",
        "block_hashes",
        "drop_stale_output",
        "end_tokens",
        "eos_token_id",
        "first_token_ns",
        "held",
        "identity",
        "is_prefill_chunk",
        "last_token_ns",
        "max_tokens",
        "needs_tokens",
        "num_blocks",
        "num_cached_blocks",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_in_flight_tokens",
        "num_output_placeholders",
        "num_preemptions",
        "num_prompt_tokens",
        "num_stale_output_tokens",
        "num_tokens",
        "prefill_end",
        "prefill_start",
        "priority",
        "prompt",
        "queued_ns",
        "request_id",
        "scheduled_ns",
        "serial",
        "skip_reading_prefix_cache",
        "status",
        "stop_token_ids",
        "stops_by_length_only",
        "token_ids",
    )

    def __init__(
        self,
        request_id: str,
        prompt: Prompt,
        max_tokens: int,
        *,
        serial: int = 0,
        arrival_time: float = 0.0,
        priority: int = 0,
        identity: CacheIdentity = _NO_IDENTITY,
        eos_token_id: int | None = None,
        stop_token_ids: Iterable[int] = (),
        skip_reading_prefix_cache: bool = False,
    ) -> None:
        self.request_id = request_id
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.serial = serial
        self.arrival_time = arrival_time
        self.priority = priority
        self.identity = identity
        self.eos_token_id = eos_token_id
        self.stop_token_ids = frozenset(stop_token_ids)
        self.stops_by_length_only = eos_token_id is None and not self.stop_token_ids
        self.needs_tokens = isinstance(prompt, TokenPrompt) or not self.stops_by_length_only
        self.skip_reading_prefix_cache = skip_reading_prefix_cache

        self.status = RequestStatus.WAITING
        self.token_ids: list[int] = list(prompt.token_ids) if isinstance(prompt, TokenPrompt) else []
        self.num_prompt_tokens = prompt.num_tokens
        self.num_tokens = prompt.num_tokens
        self.num_computed_tokens = 0
        self.num_output_placeholders = 0
        self.num_in_flight_tokens = 0
        self.num_stale_output_tokens = 0
        self.drop_stale_output = False
        self.is_prefill_chunk = True
        self.num_preemptions = 0
        self.admission = -1
        self.num_cached_tokens: int | None = None
        self.prefill_start = 0
        self.prefill_end = prompt.num_tokens
        self.end_tokens = self.num_prompt_tokens + max_tokens

        self.block_hashes = HashChain()
        self.num_blocks = 0
        self.num_cached_blocks = 0
        self.held: list[Holding] = []

        self.queued_ns: int | None = None
        self.scheduled_ns: int | None = None
        self.first_token_ns: int | None = None
        self.last_token_ns: int | None = None

    def __repr__(self) -> str:
        return f"Request({self.request_id!r}, {self.status.name}, {self.num_computed_tokens}/{self.num_tokens} tokens)"

    def __lt__(self, other: "Request") -> bool:
        """Order of service under priority scheduling."""
        return (self.priority, self.arrival_time, self.request_id) < (
            other.priority,
            other.arrival_time,
            other.request_id,
        )

    @property
    def num_output_tokens(self) -> int:
        """Tokens sampled so far."""
        return self.num_tokens - self.num_prompt_tokens

    def stops_at(self, token_id: int) -> bool:
        """Whether this token ends the request."""
        return token_id == self.eos_token_id or token_id in self.stop_token_ids

    def append_output(self, token_ids: Sequence[int] | None, count: int) -> None:
        """Take `count` sampled tokens; `token_ids` is None where nobody knows them."""
        if token_ids is not None and len(self.token_ids) == self.num_tokens:
            self.token_ids.extend(token_ids)
        self.num_tokens += count

    def hash_full_blocks(self, hasher: BlockHasher) -> None:
        """Extend `block_hashes` to every full block; a block with an unknown token gets a name of its own."""
        hashes = self.block_hashes
        num_full = self.num_tokens // hasher.block_size
        num_hashed = len(hashes)
        if num_hashed >= num_full:
            return
        if self.token_ids:
            hasher.extend(hashes, self.token_ids, self.identity)
        elif not num_hashed and not isinstance(self.prompt, TokenPrompt):
            hashes = self.block_hashes = self.prompt.block_hashes(hasher.block_size)
        hashes.extend_run(-(self.serial + 1) * _ANONYMOUS_BLOCKS, num_full)
