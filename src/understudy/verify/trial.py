"""Our side of a trial: a case through our scheduler, with all that can be seen of it recorded in each iteration.

`judge.py` does the same with vLLM's scheduler. An iteration
1. takes the arrivals due, in order of (arrival step, position), then the aborts due in the same order, then the resets due, then
   the pauses due, unless the pipeline is only being filled (see Case);
2. schedules; a step with any token is in flight;
3. completes the oldest step in flight when the pipeline is full, or when nothing was scheduled.
A step samples the output that follows on the tokens that it leaves computed, token 0 behind the last.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from understudy.engine import (
    BlockHash,
    BlockRemoved,
    BlockStored,
    CacheIdentity,
    EngineConfig,
    KVCacheEvent,
    LoRA,
    PauseScope,
    Request,
    Scheduler,
    SegmentPrompt,
    StepPlan,
    TokenPrompt,
    event_hash,
)
from understudy.engine.kv_cache import PrefixCacheStats
from understudy.verify.cases import Case, Json

HASH_SEED = "0"
MAX_ITERATIONS = 20_000
"""A case that takes longer is taken for one that never ends."""


@dataclass(slots=True)
class Trial:
    """What came of a case on one side.

    `hashes` are the 64-bit block hashes that events carry, in hexadecimal, in the order in which the log first mentions
    them; the log has their positions. `chains` has for each request the number of its full blocks and the whole hash of
    the last one.
    """

    log: list[Json] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    chains: dict[str, tuple[int, str | None]] = field(default_factory=dict)


class HashTable:
    """Numbers hashes in the order in which they are first mentioned."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def number(self, block_hash: BlockHash) -> int:
        """Return the number of a hash."""
        return self._numbers.setdefault(event_hash(block_hash), len(self._numbers))

    def hashes(self) -> list[str]:
        """Return all hashes in the order of their numbers."""
        return [f"{value:x}" for value in self._numbers]


def run_case(case: Case, *, hide_tokens: bool = False, record_events: bool = True) -> Trial:
    """Run a case to its end, or to where our engine breaks down: then the last record holds nothing but an `error`.

    With `hide_tokens` the engine is told only which segments prompts share.
    """
    return _Run(case, shared_prefixes(case, hide_tokens=hide_tokens), record_events=record_events).trial()


class SharedPrefixes:
    """Names prompts by the segments that they share, as traces do that hide their tokens."""

    def __init__(self, segment_tokens: int) -> None:
        self._segment_tokens = segment_tokens
        self._ids: dict[tuple[int, tuple[int, ...]], int] = {}

    def prompt(self, token_ids: Sequence[int]) -> SegmentPrompt:
        """Return a prompt that says no more than which segments it has in common with the ones before."""
        segment_ids: list[int] = []
        prefix = -1
        for start in range(0, len(token_ids), self._segment_tokens):
            segment = tuple(token_ids[start : start + self._segment_tokens])
            prefix = self._ids.setdefault((prefix, segment), len(self._ids))
            segment_ids.append(prefix)
        return SegmentPrompt(len(token_ids), segment_ids, self._segment_tokens)


def shared_prefixes(case: Case, *, hide_tokens: bool) -> SharedPrefixes | None:
    """Return what hides the tokens of a case, if they are to be hidden."""
    if not hide_tokens:
        return None
    assert case.segment_tokens is not None, "the case says what its prompts share"
    return SharedPrefixes(case.segment_tokens)


def new_request(position: int, line: Json, prefixes: SharedPrefixes | None) -> Request:
    """Return the request that a line of a workload describes, its tokens hidden if there are `prefixes`."""
    name = line.get("lora")
    return Request(
        line["id"],
        prefixes.prompt(line["prompt"]) if prefixes else TokenPrompt(line["prompt"]),
        line["max_tokens"],
        serial=position,
        arrival_time=float(position),
        priority=line["priority"],
        identity=CacheIdentity(
            lora=LoRA(name, f"/adapters/{name}") if name else None, salt=line.get("cache_salt")
        ),
        eos_token_id=line.get("eos_token_id"),
        stop_token_ids=line.get("stop_token_ids", ()),
        skip_reading_prefix_cache=line.get("skip_reading_prefix_cache", False),
    )


class Inbox:
    """What a case has in store, handed out when it is due."""

    def __init__(self, case: Case) -> None:
        workload = enumerate(case.workload)
        self.arrivals = deque(sorted(workload, key=lambda item: (item[1]["arrive_step"], item[0])))
        aborts = [(step, line["id"]) for line in case.workload for step in line.get("abort_steps", ())]
        self._aborts = deque(sorted(aborts, key=lambda abort: abort[0]))
        self._resets = deque(case.resets)
        self._pauses = deque(case.pauses)

    def take_arrivals(self, step: int) -> list[tuple[int, Json]]:
        """Take positions and lines of the requests that have arrived."""
        taken = []
        while self.arrivals and self.arrivals[0][1]["arrive_step"] <= step:
            taken.append(self.arrivals.popleft())
        return taken

    def take_aborts(self, step: int) -> list[str]:
        """Take the ids to abort, as often as they are named."""
        taken = []
        while self._aborts and self._aborts[0][0] <= step:
            taken.append(self._aborts.popleft()[1])
        return taken

    def take_resets(self, step: int) -> list[bool]:
        """Take the resets; each says whether running requests are to be preempted."""
        taken = []
        while self._resets and self._resets[0][0] <= step:
            taken.append(self._resets.popleft()[1])
        return taken

    def take_pauses(self, step: int) -> list[PauseScope]:
        """Take the pauses; the last one counts."""
        taken: list[PauseScope] = []
        while self._pauses and self._pauses[0][0] <= step:
            taken.append(self._pauses.popleft()[1])
        return taken


class _Run:
    def __init__(self, case: Case, prefixes: SharedPrefixes | None, *, record_events: bool) -> None:
        config = EngineConfig(**case.config)
        self._prefixes = prefixes
        self._scheduler = Scheduler(config, hash_seed=HASH_SEED, record_events=record_events)
        self._depth = config.pipeline_depth
        self._fills_pipeline = case.fills_pipeline
        self._inbox = Inbox(case)
        self._outputs = {line["id"]: line["outputs"] for line in case.workload}
        self._requests: list[Request] = []
        self._in_flight: deque[tuple[StepPlan, dict[Request, int]]] = deque()
        self._reported: set[Request] = set()
        self._hashes = HashTable()

    def trial(self) -> Trial:
        log: list[Json] = []
        filling = False
        while self._inbox.arrivals or self._scheduler.has_requests:
            if len(log) == MAX_ITERATIONS:
                log.append({"error": f"the workload does not end within {MAX_ITERATIONS:,} iterations"})
                break
            try:
                told = {} if filling and self._fills_pipeline else self._read_inbox(len(log))
                record = {**told, **self._iteration()}
                self._scheduler.check_integrity()
            except Exception as error:  # noqa: BLE001 - whatever we raise where vLLM goes on is a disagreement
                log.append({"error": f"{type(error).__name__}: {error}"})
                break
            filling = not record["completed"] and bool(record["scheduled"] or record["preempted"])
            log.append(record)
        chains = {request.request_id: _chain(request.block_hashes) for request in self._requests}
        return Trial(log, self._hashes.hashes(), chains)

    def _read_inbox(self, step: int) -> Json:
        scheduler = self._scheduler
        for position, line in self._inbox.take_arrivals(step):
            request = new_request(position, line, self._prefixes)
            self._requests.append(request)
            scheduler.add(request)
        told: Json = {}
        if ids := self._inbox.take_aborts(step):
            told["aborted"] = [request.request_id for request in scheduler.abort(ids)]
        if resets := self._inbox.take_resets(step):
            told["reset"] = [
                scheduler.reset_prefix_cache(reset_running_requests=preempts) for preempts in resets
            ]
        for scope in self._inbox.take_pauses(step):
            scheduler.pause = scope
            told["pause"] = scheduler.pause
        return told

    def _iteration(self) -> Json:
        scheduler, in_flight = self._scheduler, self._in_flight
        plan = scheduler.schedule()
        record = _planned(plan)
        record["planned"] = self._totals()
        if not plan.is_empty:
            in_flight.append((plan, {request: self._next_token(request) for request in plan.scheduled}))
        completes = len(in_flight) == self._depth or (bool(in_flight) and plan.is_empty)
        outputs = self._complete(*in_flight.popleft()) if completes else []
        publishes = completes or plan.is_empty
        events = scheduler.take_events() if publishes else []
        pool = scheduler.kv_cache.pool
        return record | {
            "completed": completes,
            "outputs": outputs,
            "events": [event_line(event, self._hashes.number) for event in events],
            "totals": self._totals(),
            "usage": pool.usage,
            "requests": [_state(request) for request in (*scheduler.running, *scheduler.waiting)],
            "evictable": [self._hashes.number(block_hash) for block_hash in pool.evictable_hashes()],
            "referenced": self._references(),
            "cached": len(pool.cached_hashes()),
            "statistics": counters(scheduler.kv_cache.stats),
        }

    def _totals(self) -> list[int]:
        scheduler = self._scheduler
        return [scheduler.kv_cache.pool.num_free_blocks, len(scheduler.running), len(scheduler.waiting)]

    def _next_token(self, request: Request) -> int:
        outputs, position = (
            self._outputs[request.request_id],
            request.num_computed_tokens - request.num_prompt_tokens,
        )
        return outputs[position] if 0 <= position < len(outputs) else 0

    def _complete(self, plan: StepPlan, tokens: dict[Request, int]) -> list[list[object]]:
        outputs: list[list[object]] = []
        for request in self._scheduler.complete(plan, lambda request, _count: [tokens[request]]):
            reason = request.status.value if request.status.is_finished else None
            cached = None if request in self._reported else request.num_cached_tokens
            self._reported.add(request)
            token = request.token_ids[-1] if request.token_ids else None
            outputs.append([request.request_id, token, reason, cached])
        return outputs

    def _references(self) -> list[list[int]]:
        """Return each cached hash that is in use, with how often; the scheduler's own check says that the pool agrees."""
        counts = Counter(
            self._hashes.number(block_hash)
            for request in self._scheduler.running
            for block_hash in request.block_hashes[: request.num_cached_blocks]
        )
        return [list(item) for item in sorted(counts.items())]


def event_line(event: KVCacheEvent, name: Callable[[BlockHash], object]) -> list[object]:
    """Return an event as it is recorded, with `name` of each hash."""
    match event:
        case BlockStored(block_hashes=hashes, parent_block_hash=parent):
            return [
                "stored",
                [name(block_hash) for block_hash in hashes],
                None if parent is None else name(parent),
                list(event.token_ids),
                event.block_size,
                [keys and [_untagged(key) for key in keys] for keys in event.extra_keys],
            ]
        case BlockRemoved(block_hash=block_hash):
            return ["removed", name(block_hash)]
        case _:
            return ["cleared"]


def counters(stats: PrefixCacheStats) -> list[int]:
    """Return the statistics of the prefix cache as they are recorded."""
    return [
        stats.requests,
        stats.queries,
        stats.hits,
        stats.preempted_requests,
        stats.preempted_queries,
        stats.preempted_hits,
    ]


def _planned(plan: StepPlan) -> Json:
    return {
        "scheduled": [[request.request_id, tokens] for request, tokens in plan.scheduled.items()],
        "new": [[admission.request.request_id, admission.cached_tokens] for admission in plan.new],
        "resumed": [[admission.request.request_id, admission.cached_tokens] for admission in plan.resumed],
        "preempted": sorted(request.request_id for request in plan.preempted),
    }


def _state(request: Request) -> list[object]:
    return [
        request.request_id,
        request.status.name,
        request.num_computed_tokens,
        request.num_tokens,
        request.num_output_placeholders,
        request.num_in_flight_tokens,
        request.num_stale_output_tokens,
        request.num_preemptions,
        request.num_blocks,
        request.num_cached_blocks,
    ]


def _untagged(key: object) -> object:
    """Return an extra key as vLLM publishes it: without its kind, of an adapter the name, of a salt the salt."""
    assert isinstance(key, tuple), "a kind and what it distinguishes"
    return key[1]


def _chain(hashes: Sequence[BlockHash]) -> tuple[int, str | None]:
    last = hashes[-1] if hashes else None
    return len(hashes), last.hex() if isinstance(last, bytes) else None


def without_events(trial: Trial) -> Trial:
    """Return what is left of a trial when no events are recorded."""
    log = [record if "error" in record else record | {"events": []} for record in trial.log]
    return Trial(log, trial.hashes, trial.chains)


def without_tokens(trial: Trial) -> Trial:
    """Return what is left of a trial when nobody knows tokens, nor the hashes that are made of them."""
    log = [
        record
        if "error" in record
        else record
        | {
            "outputs": [[name, None, *rest] for name, _token, *rest in record["outputs"]],
            "events": [
                [*event[:3], [], *event[4:]] if event[0] == "stored" else event for event in record["events"]
            ],
        }
        for record in trial.log
    ]
    hashes = [str(number) for number in range(len(trial.hashes))]
    return Trial(log, hashes, {name: (count, None) for name, (count, _) in trial.chains.items()})
