"""Record what vLLM's own scheduler decides on random cases: `python -m tests.conformance.record_step_logs --help`.

It needs an environment with vLLM 0.33, and no GPU: the scheduler is Python, and no model is loaded. The iterations are
those that `understudy.engine.step_log` describes, with vLLM's scheduler in the place of ours.
"""

import argparse
import gzip
import json
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import vllm
from tests.conformance.random_cases import Case, Json, random_case
from vllm.config import CacheConfig, DeviceConfig, KVEventsConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.distributed.kv_events import BlockRemoved, BlockStored, KVCacheEvent, KVEventBatch
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

HASH_SEED = "0"
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


class _Published:
    """Stands where vLLM's event publisher stands."""

    def __init__(self) -> None:
        self.events: list[KVCacheEvent] = []

    def publish(self, batch: KVEventBatch) -> None:
        self.events.extend(batch.events)

    def shutdown(self) -> None:
        pass


def _scheduler(config: Json, model_folder: str) -> Scheduler:
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


class _Recording:
    """One case on its way through vLLM's scheduler."""

    def __init__(self, case: Case, model_folder: str) -> None:
        config = case.config
        self._workload = case.workload
        self._by_id = {request["id"]: request for request in case.workload}
        self._num_sampled = dict.fromkeys(self._by_id, 0)
        self._scheduler = _scheduler(config, model_folder)
        self._scheduler.kv_event_publisher = self._published = _Published()
        self._hasher = None
        if config["enable_prefix_caching"]:
            hash_function = get_hash_fn_by_name(config["prefix_caching_hash_algo"])
            self._hasher = get_request_block_hasher(config["block_size"], hash_function)
        self._depth = 2 if config["async_scheduling"] else 1
        self._in_flight: deque[tuple[SchedulerOutput, ModelRunnerOutput]] = deque()

    def log(self) -> list[Json]:
        """Return a record for each iteration until no request is left."""
        arrivals = deque(
            sorted(enumerate(self._workload), key=lambda item: (item[1]["arrive_step"], item[0]))
        )
        records: list[Json] = []
        while arrivals or self._scheduler.has_unfinished_requests():
            step = len(records)
            while arrivals and arrivals[0][1]["arrive_step"] <= step:
                self._add(*arrivals.popleft())
            for request in self._workload:
                if request.get("abort_step") == step:
                    self._scheduler.finish_requests(request["id"], RequestStatus.FINISHED_ABORTED)
            records.append({"step": step, **self._iteration()})
        return records

    def _add(self, position: int, request: Json) -> None:
        self._scheduler.add_request(
            Request(
                request_id=request["id"],
                prompt_token_ids=list(request["prompt"]),
                sampling_params=SamplingParams(
                    ignore_eos=True,
                    max_tokens=request["max_tokens"],
                    stop_token_ids=request.get("stop_token_ids"),
                ),
                pooling_params=None,
                block_hasher=self._hasher,
                arrival_time=float(position),
                priority=request["priority"],
                cache_salt=request.get("cache_salt"),
            )
        )

    def _iteration(self) -> Json:
        scheduler = self._scheduler
        self._published.events.clear()
        plan = scheduler.schedule()
        result = self._sample(plan)
        if plan.total_num_scheduled_tokens:
            self._in_flight.append((plan, result))
        finished: list[list[str]] = []
        if len(self._in_flight) == self._depth or not plan.total_num_scheduled_tokens:
            oldest = self._in_flight.popleft() if self._in_flight else (plan, result)
            finished = _finished(scheduler.update_from_output(*oldest).values())
        return {
            "scheduled": [list(item) for item in plan.num_scheduled_tokens.items()],
            "new": [[request.req_id, request.num_computed_tokens] for request in plan.scheduled_new_reqs],
            "resumed": sorted(plan.scheduled_cached_reqs.resumed_req_ids),
            "preempted": sorted(plan.preempted_req_ids or ()),
            "finished": finished,
            "free_blocks": scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "events": [_event(event) for event in self._published.events],
        }

    def _sample(self, plan: SchedulerOutput) -> ModelRunnerOutput:
        """Sample the next output of every request that the step takes beyond its prefill."""
        request_ids = list(plan.num_scheduled_tokens)
        tokens: list[list[int]] = []
        for request_id in request_ids:
            if self._scheduler.requests[request_id].is_prefill_chunk:
                tokens.append([])
                continue
            outputs, position = self._by_id[request_id]["outputs"], self._num_sampled[request_id]
            self._num_sampled[request_id] += 1
            tokens.append([outputs[position] if position < len(outputs) else 0])
        return ModelRunnerOutput(
            req_ids=request_ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(request_ids)},
            sampled_token_ids=tokens,
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )


def _finished(batches: Iterable[EngineCoreOutputs]) -> list[list[str]]:
    return [
        [output.request_id, str(output.finish_reason)]
        for batch in batches
        for output in batch.outputs
        if output.finish_reason is not None
    ]


def _event(event: KVCacheEvent) -> list[object]:
    match event:
        case BlockStored():
            parent = event.parent_block_hash
            return ["stored", _hex(event.block_hashes), None if parent is None else f"{parent:x}"]
        case BlockRemoved():
            return ["removed", _hex(event.block_hashes)]
        case _:
            return ["cleared"]


def _hex(hashes: Sequence[int]) -> list[str]:
    return [f"{block_hash:x}" for block_hash in hashes]


def record(case: Case, model_folder: str) -> Json:
    """Return the recording of a case: what was asked, with which vLLM, and what came of it."""
    return {
        "vllm": vllm.__version__,
        "hash_seed": HASH_SEED,
        "config": case.config,
        "workload": case.workload,
        "log": _Recording(case, model_folder).log(),
    }


def main() -> None:
    """Record a synchronous and an asynchronous case for each seed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=12, help="how many seeds")
    parser.add_argument("--requests", type=int, default=40, help="requests in each case")
    parser.add_argument("--output", type=Path, required=True, help="the folder for the recordings")
    arguments = parser.parse_args()
    os.environ["PYTHONHASHSEED"] = HASH_SEED  # where vLLM looks for the seed of its block hashes
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as model_folder:
        (Path(model_folder) / "config.json").write_text(json.dumps(SMALL_LLAMA), encoding="utf-8")
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            for mode in ("sync", "async"):
                case = random_case(seed, async_scheduling=mode == "async", num_requests=arguments.requests)
                data = json.dumps(record(case, model_folder), separators=(",", ":")).encode()
                (arguments.output / f"{mode}_{seed:04}.json.gz").write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    main()
