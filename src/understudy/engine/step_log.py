"""The step log: a workload whose time is counted in steps, run to its end, one record an iteration.

It exists to be compared with a recording of vLLM's own scheduler, line by line. An iteration
1. takes the arrivals due, in order of (arrival step, position), then the aborts due;
2. schedules; a step with any token is in flight;
3. completes the oldest step in flight when the pipeline is full, or when nothing was scheduled.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from understudy.engine.config import EngineConfig
from understudy.engine.events import BlockRemoved, BlockStored, KVCacheEvent
from understudy.engine.hash_chain import BlockHash
from understudy.engine.hashing import DEFAULT_HASH_SEED, CacheIdentity, event_hash
from understudy.engine.prompt import TokenPrompt
from understudy.engine.request import Request
from understudy.engine.scheduler import Scheduler
from understudy.engine.step_plan import StepPlan
from understudy.errors import InputError

MAX_STEPS = 200_000
"""A workload that takes longer is taken for one that never ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """A request of a step-domain workload. When `outputs` is exhausted, the model samples token 0.

    Raises InputError for what no vLLM would take.
    """

    id: str
    arrive_step: int
    prompt: tuple[int, ...]
    max_tokens: int
    outputs: tuple[int, ...]
    priority: int = 0
    cache_salt: str | None = None
    abort_step: int | None = None
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InputError("prompt must hold at least one token id")
        if min(self.prompt) < 0:
            raise InputError(f"prompt must hold token ids from 0 on, got {min(self.prompt)}")
        if self.max_tokens < 1:
            raise InputError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.arrive_step < MAX_STEPS:
            raise InputError(f"arrive_step must be from 0 to {MAX_STEPS - 1:,}, got {self.arrive_step}")


StepRecord = dict[str, object]


def step_log(
    config: EngineConfig,
    workload: Sequence[StepRequest],
    *,
    hash_seed: str = DEFAULT_HASH_SEED,
    check: bool = False,
) -> Iterator[StepRecord]:
    """Run a workload and yield a record an iteration, in the format of the step log.

    `check` verifies the scheduler's integrity after every iteration. Raises InputError for duplicate ids, for a
    request that cannot fit, both before the first step, and for a workload that takes more than MAX_STEPS.
    """
    by_id: dict[str, StepRequest] = {}
    for request in workload:
        if request.id in by_id:
            raise InputError(f"two requests have the id {request.id!r}")
        _check_fits(request, config)
        by_id[request.id] = request
    scheduler = Scheduler(config, hash_seed=hash_seed, record_events=True)
    arrivals = deque(sorted(enumerate(workload), key=lambda item: (item[1].arrive_step, item[0])))
    aborts: dict[int, list[str]] = {}
    for request in workload:
        if request.abort_step is not None:
            aborts.setdefault(request.abort_step, []).append(request.id)
    in_flight: deque[StepPlan] = deque()

    def sample(request: Request, count: int) -> list[int]:
        outputs, position = by_id[request.request_id].outputs, request.num_output_tokens
        known = list(outputs[position : position + count])
        return known + [0] * (count - len(known))

    for step in range(MAX_STEPS):
        if not (arrivals or scheduler.has_requests):
            return
        while arrivals and arrivals[0][1].arrive_step <= step:
            position, arrival = arrivals.popleft()
            scheduler.add(_request(position, arrival))
        scheduler.abort(aborts.get(step, ()))
        plan = scheduler.schedule()
        record = _planned(step, plan)
        if not plan.is_empty:
            in_flight.append(plan)
        outputs: list[Request] = []
        events: list[KVCacheEvent] = []
        if len(in_flight) == config.pipeline_depth or (in_flight and plan.is_empty):
            outputs = scheduler.complete(in_flight.popleft(), sample)
            events = scheduler.take_events()
        elif not in_flight:
            events = scheduler.take_events()
        record["finished"] = [
            [request.request_id, request.status.value] for request in outputs if request.status.is_finished
        ]
        record["free_blocks"] = scheduler.kv_cache.pool.num_free_blocks
        record["running"] = len(scheduler.running)
        record["waiting"] = len(scheduler.waiting)
        record["events"] = [_event(event) for event in events]
        if check:
            scheduler.check_integrity()
        yield record
    raise InputError(f"the workload does not end within {MAX_STEPS:,} steps")


def _check_fits(request: StepRequest, config: EngineConfig) -> None:
    """Raise InputError for a prompt that vLLM refuses, and for a request that the whole cache has no room for.

    vLLM does not start where its longest context does not fit, so it never meets the latter.
    """
    num_prompt_tokens = len(request.prompt)
    if num_prompt_tokens >= config.max_model_len:
        raise InputError(
            f"request {request.id!r}: a prompt of {num_prompt_tokens} tokens leaves no room for an answer: "
            f"max_model_len is {config.max_model_len}"
        )
    # The last token of an answer is never computed, so it takes no room.
    most_tokens = min(num_prompt_tokens + request.max_tokens, config.max_model_len) - 1
    num_blocks = -(-most_tokens // config.block_size)
    if num_blocks > config.num_gpu_blocks - 1:
        raise InputError(
            f"request {request.id!r}: prompt and answer may need {num_blocks} blocks; "
            f"num_gpu_blocks leaves {config.num_gpu_blocks - 1} besides the null block"
        )


def _request(position: int, request: StepRequest) -> Request:
    return Request(
        request.id,
        TokenPrompt(request.prompt),
        request.max_tokens,
        serial=position,
        arrival_time=float(position),
        priority=request.priority,
        identity=CacheIdentity(salt=request.cache_salt),
        stop_token_ids=request.stop_token_ids,
    )


def _planned(step: int, plan: StepPlan) -> StepRecord:
    return {
        "step": step,
        "scheduled": [[request.request_id, tokens] for request, tokens in plan.scheduled.items()],
        "new": [[admission.request.request_id, admission.cached_tokens] for admission in plan.new],
        "resumed": sorted(admission.request.request_id for admission in plan.resumed),
        "preempted": sorted(request.request_id for request in plan.preempted),
    }


def _event(event: KVCacheEvent) -> list[object]:
    match event:
        case BlockStored(block_hashes=hashes, parent_block_hash=parent):
            return [
                "stored",
                [_hex(block_hash) for block_hash in hashes],
                None if parent is None else _hex(parent),
            ]
        case BlockRemoved(block_hash=block_hash):
            return ["removed", [_hex(block_hash)]]
        case _:
            return ["cleared"]


def _hex(block_hash: BlockHash) -> str:
    return f"{event_hash(block_hash):x}"
