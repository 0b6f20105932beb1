"""The load of a worker, read from its page of metrics without reading the rest."""

import math
from collections.abc import Iterator
from typing import NamedTuple

_RUNNING = b"vllm:num_requests_running"
_WAITING = b"vllm:num_requests_waiting"
_KV_USAGE = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")
"""Of vLLM 0.33, and of older ones."""

_MOST_SERIES = 4096


class WorkerLoad(NamedTuple):
    """Requests of all engines of a worker, and the share of their KV caches in use on average, 0 to 1."""

    running: int
    waiting: int
    kv_usage: float


def read_load(page: bytes) -> WorkerLoad | None:
    """Return the load that a page in Prometheus' text format tells; None where it tells none, or nonsense."""
    running, waiting = list(_values(page, _RUNNING)), list(_values(page, _WAITING))
    usages = list(_values(page, _KV_USAGE[0])) or list(_values(page, _KV_USAGE[1]))
    if not running or not waiting or not usages:
        return None
    if not all(math.isfinite(value) and value >= 0 for value in (*running, *waiting, *usages)):
        return None
    kv_usage = sum(usages) / len(usages)
    return WorkerLoad(int(sum(running)), int(sum(waiting)), kv_usage) if kv_usage <= 1 else None


def _values(page: bytes, name: bytes) -> Iterator[float]:
    """Return the values of the series of a name, NaN for what is no number."""
    for rest in (b"\n" + page).split(b"\n" + name, _MOST_SERIES)[1:]:
        line = rest.partition(b"\n")[0]
        if line.startswith((b"{", b" ")):
            yield _number(line)


def _number(rest: bytes) -> float:
    """Return the value behind a series' name: behind its labels, and before a time if there is one."""
    fields = rest.rpartition(b"}")[2].split()
    try:
        return float(fields[0])
    except (ValueError, IndexError):
        return math.nan
