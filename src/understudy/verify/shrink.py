"""Makes a case smaller for as long as something holds of it: fewer requests, a simpler configuration, shorter prompts."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from understudy.verify.cases import Case, Json

SIMPLEST: Json = {
    "async_scheduling": False,
    "enable_prefix_caching": False,
    "prefix_caching_hash_algo": "sha256",
    "scheduling_policy": "fcfs",
    "enable_chunked_prefill": True,
    "max_num_scheduled_tokens": None,
    "max_num_active_seqs": None,
    "watermark": 0.0,
    "scheduler_reserve_full_isl": True,
    "long_prefill_token_threshold": 0,
    "long_prefill_token_threshold_adaptive": False,
    "prefill_schedule_interval": 1,
}
ODDITIES = (
    "abort_steps",
    "cache_salt",
    "stop_token_ids",
    "eos_token_id",
    "skip_reading_prefix_cache",
    "lora",
)


def shrunk(case: Case, holds: Callable[[Case], bool], max_tries: int) -> Iterator[Case]:
    """Yield ever smaller cases for which it holds, as it holds for `case`; ask at most `max_tries` times."""
    tries = 0
    found = True
    while found:
        found = False
        for smaller in _smaller(case):
            if tries == max_tries:
                return
            tries += 1
            if holds(smaller):
                case, found = smaller, True
                yield case
                break


def _smaller(case: Case) -> Iterator[Case]:
    """Yield cases that are a little simpler, the greatest steps first."""
    yield from _with_fewer_requests(case)
    if case.resets:
        yield replace(case, resets=[])
    for index in range(len(case.resets)):
        yield replace(case, resets=case.resets[:index] + case.resets[index + 1 :])
    if case.pauses:
        yield replace(case, pauses=[])
    if case.fills_pipeline:
        yield replace(case, fills_pipeline=False)
    for name, simplest in SIMPLEST.items():
        if case.config[name] != simplest:
            yield replace(case, config=case.config | {name: simplest})
    for index, request in enumerate(case.workload):
        for simpler in _simpler_requests(request, case.segment_tokens or 1):
            yield replace(case, workload=[*case.workload[:index], simpler, *case.workload[index + 1 :]])


def _with_fewer_requests(case: Case) -> Iterator[Case]:
    count = len(case.workload)
    piece = -(-count // 2)
    while piece:
        for start in range(0, count, piece):
            yield replace(case, workload=case.workload[:start] + case.workload[start + piece :])
        piece //= 2


def _simpler_requests(request: Json, shared_unit: int) -> Iterator[Json]:
    """Yield simpler requests, whose prompts still share whole units."""
    for name in ODDITIES:
        if name in request:
            yield {key: value for key, value in request.items() if key != name}
    if request["priority"]:
        yield request | {"priority": 0}
    prompt, outputs, max_tokens = request["prompt"], request["outputs"], request["max_tokens"]
    for half in (len(prompt) // 2, len(prompt) - 1):
        if length := half // shared_unit * shared_unit:
            yield request | {"prompt": prompt[:length]}
    for count in {max_tokens // 2, max_tokens - 1} - {0}:
        yield request | {"max_tokens": count, "outputs": outputs[:count]}
    for step in {0, request["arrive_step"] // 2} - {request["arrive_step"]}:
        yield request | {"arrive_step": step}
