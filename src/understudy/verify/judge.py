"""vLLM's side of a trial: a script for vLLM's own Python, which reads cases and prints what came of them.

It needs vLLM and no GPU: the scheduler is Python, and no model is loaded. It imports nothing of ours, so that nothing of ours can
influence the judge. The first line printed names the version of vLLM. From then on there is one line of JSON on
standard output for each line on standard input. `trial.py` says what an iteration does and, with the same names, what is
recorded of it.
"""

import json
import os
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# Before vLLM is imported: it looks at these once. PYTHONHASHSEED is where it takes the seed of its block hashes from.
os.environ.update(
    VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", VLLM_TARGET_DEVICE="cpu", PYTHONHASHSEED="0"
)

import torch
import vllm
from vllm.config import CacheConfig, DeviceConfig, KVEventsConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.distributed.kv_events import BlockRemoved, BlockStored, KVCacheEvent, KVEventBatch
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.metrics.stats import PrefixCacheStats
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

Json = dict[str, Any]

MAX_ITERATIONS = 20_000
GROUP_ID_BYTES = 4
EVENT_HASH_BYTES = 8
SMALL_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 4,
    "max_position_embeddings": 65536,
    "vocab_size": 32000,
    "torch_dtype": "float16",
}
"""vLLM wants to know a model. Nothing recorded here depends on which."""
SCHEDULER_OPTIONS = (
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_num_scheduled_tokens",
    "max_num_active_seqs",
    "enable_chunked_prefill",
    "async_scheduling",
    "watermark",
    "scheduler_reserve_full_isl",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
    "prefill_schedule_interval",
)
PAUSE_STATES = {
    "none": PauseState.UNPAUSED,
    "new": PauseState.PAUSED_NEW,
    "all": PauseState.PAUSED_ALL,
}
PAUSE_SCOPES = {state: scope for scope, state in PAUSE_STATES.items()}
STATISTICS = ("requests", "queries", "hits", "preempted_requests", "preempted_queries", "preempted_hits")


class Published:
    """Stands where vLLM's event publisher stands."""

    def __init__(self) -> None:
        self.events: list[KVCacheEvent] = []

    def publish(self, batch: KVEventBatch) -> None:
        """Keep the events of a batch."""
        self.events.extend(batch.events)

    def shutdown(self) -> None:
        """Do nothing: vLLM calls this at its end."""


def new_scheduler(config: Json, model_folder: str) -> Scheduler:
    """Return vLLM's own scheduler, with one group of full attention."""
    size, num_blocks = config["block_size"], config["num_gpu_blocks"]
    model = ModelConfig(
        model=model_folder,
        skip_tokenizer_init=True,
        dtype="float16",
        seed=0,
        max_model_len=config["max_model_len"],
    )
    cache_config = CacheConfig(
        block_size=size,
        enable_prefix_caching=config["enable_prefix_caching"],
        prefix_caching_hash_algo=config["prefix_caching_hash_algo"],
    )
    cache_config.num_gpu_blocks = num_blocks
    vllm_config = VllmConfig(
        model_config=model,
        cache_config=cache_config,
        device_config=DeviceConfig("cpu"),
        kv_events_config=KVEventsConfig(enable_kv_cache_events=True, publisher="null"),
        scheduler_config=SchedulerConfig(
            is_encoder_decoder=False,
            policy=config["scheduling_policy"],
            **{name: config[name] for name in SCHEDULER_OPTIONS},
        ),
    )
    attention = FullAttentionSpec(block_size=size, num_kv_heads=4, head_size=16, dtype=torch.float16)
    init_none_hash(get_hash_fn_by_name(config["prefix_caching_hash_algo"]))
    scheduler_class = AsyncScheduler if config["async_scheduling"] else Scheduler
    return scheduler_class(
        vllm_config=vllm_config,
        kv_cache_config=KVCacheConfig(
            num_blocks=num_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], attention)],
        ),
        structured_output_manager=StructuredOutputManager(vllm_config),
        block_size=size,
        log_stats=True,
    )


class Run:
    """One case on its way through vLLM's scheduler."""

    def __init__(self, case: Json, model_folder: str) -> None:
        config = case["config"]
        self._scheduler = new_scheduler(config, model_folder)
        self._scheduler.kv_event_publisher = self._published = Published()
        self._hasher = None
        if config["enable_prefix_caching"]:
            hash_function = get_hash_fn_by_name(config["prefix_caching_hash_algo"])
            self._hasher = get_request_block_hasher(config["block_size"], hash_function)
        self._depth = 2 if config["async_scheduling"] else 1
        self._fills_pipeline = case["fills_pipeline"]
        workload = case["workload"]
        self._arrivals = deque(
            sorted(enumerate(workload), key=lambda item: (item[1]["arrive_step"], item[0]))
        )
        aborts = [(step, line["id"]) for line in workload for step in line.get("abort_steps", ())]
        self._aborts = deque(sorted(aborts, key=lambda abort: abort[0]))
        self._resets = deque(case["resets"])
        self._pauses = deque(case["pauses"])
        self._outputs = {line["id"]: line["outputs"] for line in workload}
        self._requests: list[Request] = []
        self._in_flight: deque[tuple[SchedulerOutput, ModelRunnerOutput]] = deque()
        self._hashes: dict[int, int] = {}
        self._statistics: Counter[str] = Counter()

    def trial(self) -> Json:
        """Return the record of each iteration until no request is left, and the hashes."""
        log: list[Json] = []
        filling = False
        # While it is paused vLLM counts no request as unfinished.
        while self._arrivals or self._scheduler.requests:
            if len(log) == MAX_ITERATIONS:
                raise SystemExit("the workload does not end")
            told = {} if filling and self._fills_pipeline else self._read_inbox(len(log))
            record = {**told, **self._iteration()}
            filling = not record["completed"] and bool(record["scheduled"] or record["preempted"])
            log.append(record)
        chains = {
            request.request_id: [
                len(request.block_hashes),
                request.block_hashes[-1].hex() if request.block_hashes else None,
            ]
            for request in self._requests
        }
        return {
            "log": log,
            "hashes": [f"{value:x}" for value in self._hashes],
            "chains": chains,
        }

    def _read_inbox(self, step: int) -> Json:
        while self._arrivals and self._arrivals[0][1]["arrive_step"] <= step:
            self._add(*self._arrivals.popleft())
        told: Json = {}
        ids = []
        while self._aborts and self._aborts[0][0] <= step:
            ids.append(self._aborts.popleft()[1])
        if ids:
            # One call for each request: vLLM ends those of one call in the order of a set, so in any.
            told["aborted"] = [
                request.request_id
                for name, times in Counter(ids).items()
                for request in self._scheduler.finish_requests([name] * times, RequestStatus.FINISHED_ABORTED)
            ]
        answers = []
        while self._resets and self._resets[0][0] <= step:
            preempts = self._resets.popleft()[1]
            answers.append(self._scheduler.reset_prefix_cache(reset_running_requests=preempts))
        if answers:
            told["reset"] = answers
        while self._pauses and self._pauses[0][0] <= step:
            self._scheduler.set_pause_state(PAUSE_STATES[self._pauses.popleft()[1]])
            told["pause"] = PAUSE_SCOPES[self._scheduler.pause_state]
        return told

    def _add(self, position: int, line: Json) -> None:
        end = line.get("eos_token_id")
        sampling = SamplingParams(
            ignore_eos=end is None, max_tokens=line["max_tokens"], stop_token_ids=line.get("stop_token_ids")
        )
        sampling._eos_token_id = end  # noqa: SLF001 - vLLM's front end writes here what the model's folder says
        if line.get("skip_reading_prefix_cache"):
            sampling.skip_reading_prefix_cache = True
        name = line.get("lora")
        request = Request(
            request_id=line["id"],
            prompt_token_ids=list(line["prompt"]),
            sampling_params=sampling,
            pooling_params=None,
            block_hasher=self._hasher,
            arrival_time=float(position),
            priority=line["priority"],
            cache_salt=line.get("cache_salt"),
            lora_request=(
                LoRARequest(lora_name=name, lora_int_id=len(name), lora_path=f"/adapters/{name}")
                if name
                else None
            ),
        )
        self._requests.append(request)
        self._scheduler.add_request(request)

    def _iteration(self) -> Json:
        scheduler, in_flight = self._scheduler, self._in_flight
        self._published.events.clear()
        plan = scheduler.schedule()
        record = self._planned(plan)
        record["planned"] = self._totals()
        result = self._sample(plan)
        is_empty = not plan.total_num_scheduled_tokens
        if not is_empty:
            in_flight.append((plan, result))
        completes = len(in_flight) == self._depth or (bool(in_flight) and is_empty)
        outputs = []
        if completes or is_empty:
            oldest = in_flight.popleft() if in_flight else (plan, result)
            outputs = self._update(scheduler.update_from_output(*oldest).values())
        pool = scheduler.kv_cache_manager.block_pool
        waiting = scheduler.kv_cache_manager.prefix_cache_stats
        return record | {
            "completed": completes,
            "outputs": outputs,
            "events": [self._event(event) for event in self._published.events],
            "totals": self._totals(),
            "usage": scheduler.get_kv_cache_usage(),
            "requests": [self._state(request) for request in (*scheduler.running, *scheduler.waiting)],
            "evictable": [self._number(block_hash) for block_hash in evictable(pool)],
            "referenced": self._references(pool),
            "cached": sum(block.block_hash is not None for block in pool.blocks),
            "statistics": [self._statistics[name] + getattr(waiting, name) for name in STATISTICS],
        }

    def _planned(self, plan: SchedulerOutput) -> Json:
        cached = plan.scheduled_cached_reqs
        computed = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        return {
            "scheduled": [list(item) for item in plan.num_scheduled_tokens.items()],
            "new": [[request.req_id, request.num_computed_tokens] for request in plan.scheduled_new_reqs],
            "resumed": [[name, computed[name]] for name in cached.req_ids if name in cached.resumed_req_ids],
            "preempted": sorted(plan.preempted_req_ids or ()),
        }

    def _totals(self) -> list[int]:
        scheduler = self._scheduler
        free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return [free, len(scheduler.running), len(scheduler.waiting)]

    def _sample(self, plan: SchedulerOutput) -> ModelRunnerOutput:
        request_ids = list(plan.num_scheduled_tokens)
        tokens: list[list[int]] = []
        for request_id in request_ids:
            request, outputs = self._scheduler.requests[request_id], self._outputs[request_id]
            position = request.num_computed_tokens - request.num_prompt_tokens
            token = outputs[position] if 0 <= position < len(outputs) else 0
            tokens.append([] if request.is_prefill_chunk else [token])
        return ModelRunnerOutput(
            req_ids=request_ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(request_ids)},
            sampled_token_ids=tokens,
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )

    def _update(self, batches: Iterable[EngineCoreOutputs]) -> list[list[object]]:
        outputs: list[list[object]] = []
        for batch in batches:
            for output in batch.outputs:
                (token,) = output.new_token_ids
                reason = None if output.finish_reason is None else str(output.finish_reason)
                first = output.prefill_stats
                outputs.append([output.request_id, token, reason, first and first.num_cached_tokens])
            if batch.scheduler_stats is not None:
                self._count(batch.scheduler_stats.prefix_cache_stats)
        return outputs

    def _count(self, stats: PrefixCacheStats) -> None:
        self._statistics.update({name: getattr(stats, name) for name in STATISTICS})

    def _state(self, request: Request) -> list[object]:
        (manager,) = self._scheduler.kv_cache_manager.coordinator.single_type_managers
        name = request.request_id
        return [
            name,
            request.status.name,
            request.num_computed_tokens,
            request.num_tokens,
            request.num_output_placeholders,
            request.num_in_flight_tokens,
            request.num_stale_output_tokens,
            request.num_preemptions,
            len(manager.req_to_blocks.get(name, ())),
            manager.num_cached_block.get(name, 0) if self._hasher else 0,
        ]

    def _references(self, pool: BlockPool) -> list[list[int]]:
        # Hashes are numbered in the order in which they are first mentioned: here by the running requests.
        (manager,) = self._scheduler.kv_cache_manager.coordinator.single_type_managers
        for request in self._scheduler.running:
            for block in manager.req_to_blocks[request.request_id]:
                if block.block_hash is not None:
                    self._number(event_hash(block.block_hash[:-GROUP_ID_BYTES]))
        counts: Counter[int] = Counter()
        for block in pool.blocks:
            if block.block_hash is not None and block.ref_cnt:
                counts[self._number(event_hash(block.block_hash[:-GROUP_ID_BYTES]))] += block.ref_cnt
        return [list(item) for item in sorted(counts.items())]

    def _event(self, event: KVCacheEvent) -> list[object]:
        match event:
            case BlockStored():
                parent = event.parent_block_hash
                return [
                    "stored",
                    [self._number(block_hash) for block_hash in event.block_hashes],
                    None if parent is None else self._number(parent),
                    list(event.token_ids),
                    event.block_size,
                    [keys and list(keys) for keys in event.extra_keys],
                ]
            case BlockRemoved():
                (block_hash,) = event.block_hashes
                return ["removed", self._number(block_hash)]
            case _:
                return ["cleared"]

    def _number(self, block_hash: int) -> int:
        return self._hashes.setdefault(block_hash, len(self._hashes))


def event_hash(block_hash: bytes) -> int:
    """Return what events carry of a block hash."""
    return int.from_bytes(block_hash[-EVENT_HASH_BYTES:], "big")


def evictable(pool: BlockPool) -> Iterator[int]:
    """Yield the hashes of the free blocks that have one, in the order of the free queue.

    Those that have none must come first; what their order is among themselves nobody can see.
    """
    block = pool.free_block_queue.fake_free_list_head.next_free_block
    seen_hash = False
    while block is not pool.free_block_queue.fake_free_list_tail:
        if block.block_hash is not None:
            seen_hash = True
            yield event_hash(block.block_hash[:-GROUP_ID_BYTES])
        elif seen_hash:
            yield -1
        block = block.next_free_block


def main() -> None:
    """Answer cases until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed goes elsewhere
    with tempfile.TemporaryDirectory() as model_folder:
        (Path(model_folder) / "config.json").write_text(json.dumps(SMALL_LLAMA), encoding="utf-8")
        print(json.dumps({"vllm": vllm.__version__}), file=answers, flush=True)
        for line in sys.stdin:
            trial = Run(json.loads(line), model_folder).trial()
            print(json.dumps(trial, separators=(",", ":")), file=answers, flush=True)


if __name__ == "__main__":
    main()
