"""What the router's own data cost: memory of the prefix index, look-ups in it, and decisions over a large fleet.

    python -m benchmarks.routing_index

Hashes are 64-bit numbers, as in vLLM's KV events. Memory is what Python allocates, times are medians of CPU time.
"""

import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

from understudy.routing import (
    Decision,
    Knowledge,
    PolicyMemory,
    PrefixIndex,
    RouterState,
    RoutingRequest,
    decide,
    known_policies,
    load_policy,
    narrowed,
)

NUM_WORKERS = 64
EVENT_BLOCKS = 64
"""How many blocks an event or a request names: a prompt of 1,024 tokens."""
BLOCKS_PER_WORKER = 80 * EVENT_BLOCKS
LARGE_FLEET = 4_000
PROMPT_BLOCKS = 512
BLOCK_SIZE = 16
REPETITIONS = 50

T = TypeVar("T")


def main() -> None:
    """Measure and print everything."""
    print(f"memory, bytes a copy: {NUM_WORKERS} workers with {BLOCKS_PER_WORKER:,} blocks each")
    print(f"  {'':52}{'stored once':>14}{'after churn':>14}")
    for copies in (1, 4, NUM_WORKERS):
        _print_bytes(
            f"each block held by {copies}", [_index_bytes(copies, churn=churn) for churn in (False, True)]
        )
    _print_bytes(
        "no news, only what the router sent", [_guesses_bytes(churn=churn) for churn in (False, True)]
    )

    print(f"look-up of {PROMPT_BLOCKS} blocks, milliseconds")
    for workers in (NUM_WORKERS, LARGE_FLEET):
        _print_ms(f"{workers} workers, all hold all", _look_up_ns(workers, uneven=False))
        _print_ms(f"{workers} workers, each holds another length", _look_up_ns(workers, uneven=True))

    print("telling the index, milliseconds")
    stored_ns, cleared_ns = _telling_ns()
    _print_ms(f"an event of {EVENT_BLOCKS} blocks", stored_ns)
    _print_ms(f"one of {NUM_WORKERS} workers drops {BLOCKS_PER_WORKER:,} blocks", cleared_ns)

    print(f"one decision over {LARGE_FLEET:,} workers, milliseconds, look-up included")
    print(f"  {'':52}{'all of them':>14}{'all but one':>14}")
    state = _large_fleet()
    for policy in known_policies():
        times_ms = [_decision_ns(policy, state, left_out=left_out) / 1e6 for left_out in (0, 1)]
        print(f"  {policy:52}{times_ms[0]:14.2f}{times_ms[1]:14.2f}")


def _print_bytes(what: str, per_copy: list[float]) -> None:
    print(f"  {what:52}" + "".join(f"{number:14.0f}" for number in per_copy))


def _print_ms(what: str, duration_ns: float) -> None:
    print(f"  {what:52}{duration_ns / 1e6:14.3f}")


def _hashes(series: int, first: int, count: int) -> list[int]:
    """Return so many hashes of a series as new objects: equal numbers for the same arguments, else different ones."""
    start = series * 1_000_003 + first
    return [(number * 0x9E37_79B9_7F4A_7C15 + 1) % 2**64 for number in range(start, start + count)]


def _index_bytes(copies: int, *, churn: bool) -> float:
    """Return the memory of an index for each block of each worker."""

    def fill() -> PrefixIndex:
        index = PrefixIndex(NUM_WORKERS)
        for first in range(0, BLOCKS_PER_WORKER * (4 if churn else 1), EVENT_BLOCKS):
            for worker in range(NUM_WORKERS):
                series = worker // copies
                index.stored(worker, _hashes(series, first, EVENT_BLOCKS))
                if first >= BLOCKS_PER_WORKER:
                    index.removed(worker, _hashes(series, first - BLOCKS_PER_WORKER, EVENT_BLOCKS))
        return index

    index, used_bytes = _allocated(fill)
    return used_bytes / sum(index.blocks_held(worker) for worker in range(NUM_WORKERS))


def _guesses_bytes(*, churn: bool) -> float:
    """Return the memory of a router without news, for each block that it takes a worker to hold."""

    def fill() -> RouterState:
        state = RouterState(NUM_WORKERS, Knowledge.OWN, BLOCKS_PER_WORKER)
        for first in range(0, BLOCKS_PER_WORKER * (4 if churn else 1), EVENT_BLOCKS):
            for worker in range(NUM_WORKERS):
                request = _request(_hashes(worker, first, EVENT_BLOCKS))
                state.dispatched(request, Decision(worker, 0, ""), 0)
                state.finished(request.request_id, worker)
        return state

    state, used_bytes = _allocated(fill)
    return used_bytes / sum(state.index.blocks_held(worker) for worker in range(NUM_WORKERS))


def _look_up_ns(num_workers: int, *, uneven: bool) -> float:
    index = PrefixIndex(num_workers)
    for worker in range(num_workers):
        length = 1 + worker % PROMPT_BLOCKS if uneven else PROMPT_BLOCKS
        index.stored(worker, _hashes(0, 0, length))
    prompt = _hashes(0, 0, PROMPT_BLOCKS)
    return _median_ns(lambda: index.longest_prefixes(prompt))


def _telling_ns() -> tuple[float, float]:
    index = PrefixIndex(NUM_WORKERS)
    for first in range(0, BLOCKS_PER_WORKER, EVENT_BLOCKS):
        for worker in range(NUM_WORKERS):
            index.stored(worker, _hashes(worker, first, EVENT_BLOCKS))
    new = iter([_hashes(NUM_WORKERS, place * EVENT_BLOCKS, EVENT_BLOCKS) for place in range(REPETITIONS)])
    stored_ns = _median_ns(lambda: index.stored(0, next(new)))
    workers = iter(range(1, NUM_WORKERS))
    return stored_ns, _median_ns(lambda: index.cleared(next(workers)))


def _large_fleet() -> RouterState:
    """Return a fleet all of whose workers hold a quarter of a prompt, some of them more, under uneven load."""
    rng = random.Random(0)
    state = RouterState(LARGE_FLEET, Knowledge.EVENTS)
    for worker in range(LARGE_FLEET):
        held = PROMPT_BLOCKS // 4 + (rng.randrange(PROMPT_BLOCKS // 2) if worker % 4 == 0 else 0)
        state.stored(worker, _hashes(0, 0, held))
        state.reported(worker, rng.randrange(64), rng.randrange(8), rng.random(), 0)
        for number in range(rng.randrange(4)):
            request = _request(_hashes(worker + 1, 0, 8), f"{worker}/{number}")
            state.dispatched(request, Decision(worker, 0, ""), 0)
    return state


def _decision_ns(policy: str, state: RouterState, *, left_out: int) -> float:
    choose, memory = load_policy(policy), PolicyMemory(random.Random(0))
    request = _request(_hashes(0, 0, PROMPT_BLOCKS))
    candidates = range(left_out, LARGE_FLEET)
    return _median_ns(
        lambda: decide(choose, policy, request, narrowed(state.fleet_at(1), candidates), memory)
    )


def _request(hashes: list[int], name: str = "r") -> RoutingRequest:
    return RoutingRequest(
        request_id=name,
        num_prompt_tokens=len(hashes) * BLOCK_SIZE,
        block_hashes=hashes,
        block_size=BLOCK_SIZE,
        session_id="session",
    )


def _allocated(fill: Callable[[], T]) -> tuple[T, int]:
    """Return what a function makes, and how much memory it keeps."""
    tracemalloc.start()
    made = fill()
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return made, used_bytes


def _median_ns(call: Callable[[], object]) -> float:
    times_ns: list[int] = []
    for _ in range(REPETITIONS):
        start_ns = time.process_time_ns()
        call()
        times_ns.append(time.process_time_ns() - start_ns)
    return statistics.median(times_ns)


if __name__ == "__main__":
    main()
