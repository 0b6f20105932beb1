"""Measures `understudy route` beside other routers, and beside its own forwarding without policy, hashes and counting.

    python -m benchmarks.routing all --peers .venv-routers
    python -m benchmarks.routing requests

Routers, workers and load are processes of one machine, so what counts is the router's CPU time. `--json` prints JSON.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.request_load import ask, stream_delays
from benchmarks.routers import DIRECT, ROUTE, Place, all_started
from benchmarks.servers import Server
from benchmarks.stream_load import CHAT, Load, run_load

CLIENTS = 16
REQUESTS = 6000
WARM_UP = 500

STREAMS = 256
TOKENS = 200

FEW_CLIENTS = 8
FEW_STREAMS = 96
FEW_TOKENS = 8

PACED_CLIENTS = 128
PACED_SECONDS = 4
HALF = 0.5

_NS_PER_MS = 1e6
_US_PER_SECOND = 1e6

Figures = dict[str, float]


class Part(NamedTuple):
    """What is measured of each server, at how many requests a second as far as that matters.

    Without `of_router` there are figures without a router, too; with `is_added` these are taken off all others'. Workers give
    each stream a token each `token_seconds`.
    """

    title: str
    measure: Callable[[Server, float], Figures]
    of_router: bool = True
    is_added: bool = False
    token_seconds: float = 0.02


def request_figures(server: Server, per_second: float) -> Figures:
    """Let clients ask without a pause."""
    del per_second
    ask(server.port, CLIENTS, WARM_UP)
    before_seconds = server.cpu_seconds
    answered = ask(server.port, CLIENTS, REQUESTS)
    cpu_seconds = server.cpu_seconds - before_seconds
    return {
        "CPU us": cpu_seconds / REQUESTS * _US_PER_SECOND,
        "requests/s": REQUESTS / answered.wall_seconds,
    }


def token_figures(server: Server, per_second: float) -> Figures:
    """Let many streams flow at the workers' pace."""
    del per_second
    run_load(server.port, Load(CHAT, STREAMS, STREAMS, 5))
    before_seconds = server.cpu_seconds
    load = Load(CHAT, STREAMS, STREAMS, TOKENS)
    result = run_load(server.port, load)
    cpu_seconds = server.cpu_seconds - before_seconds
    assert result.events == load.total_tokens
    return {
        "CPU us": cpu_seconds / load.total_tokens * _US_PER_SECOND,
        "tokens/s": load.total_tokens / result.wall_seconds,
    }


def first_token_figures(server: Server, per_second: float) -> Figures:
    """Let a few streams flow over connections that stay open, and see how long tokens take from worker to client."""
    del per_second
    stream_delays(server.port, FEW_CLIENTS, FEW_CLIENTS, FEW_TOKENS)
    delays = stream_delays(server.port, FEW_CLIENTS, FEW_STREAMS, FEW_TOKENS)
    return {
        "first ms": statistics.median(delays.first_ns) / _NS_PER_MS,
        "later ms": statistics.median(delays.later_ns) / _NS_PER_MS,
    }


def latency_figures(server: Server, per_second: float) -> Figures:
    """Send so many requests a second."""
    ask(server.port, CLIENTS, WARM_UP)
    answered = ask(server.port, PACED_CLIENTS, round(per_second * PACED_SECONDS), per_second)
    hundredths = statistics.quantiles(answered.latencies_ns, n=100)
    return {
        "p50 ms": hundredths[49] / _NS_PER_MS,
        "p99 ms": hundredths[98] / _NS_PER_MS,
        "requests/s": per_second,
    }


PARTS: Mapping[str, Part] = {
    "requests": Part("CPU of the router for a short chat", request_figures),
    "tokens": Part(f"CPU of the router for a token, {STREAMS} streams", token_figures),
    "first-token": Part(
        "a token's way from worker to client", first_token_figures, of_router=False, token_seconds=0.012
    ),
    "latency": Part(
        "latency that the router adds to a short chat", latency_figures, of_router=False, is_added=True
    ),
}


def measured(part: Part, servers: Mapping[str, Server], runs: int) -> dict[str, list[Figures]]:
    """Return the figures of each server, measured by turns; requests a second are half of what `understudy route` can do then."""
    asked = [name for name in servers if name != DIRECT or not part.of_router]
    found: dict[str, list[Figures]] = {name: [] for name in asked}
    for _ in range(runs):
        # The machine is shared: what a router can do is not the same at all times.
        per_second = HALF * request_figures(servers[ROUTE], 0)["requests/s"] if part.is_added else 0
        for name in asked:
            figures = part.measure(servers[name], per_second)
            if part.is_added and name != DIRECT:
                before = found[DIRECT][-1]
                figures |= {key: figures[key] - before[key] for key in figures if key.endswith("ms")}
            found[name].append(figures)
    return found


def told(part: Part, found: Mapping[str, Sequence[Figures]]) -> str:
    """Return a table of medians; its last columns are how many times those of `understudy route` the first ones are, and each run."""
    medians = {
        name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    keys = list(medians[ROUTE])
    lines = [f"{part.title}\n  {'':24}" + "".join(f"{key:>12}" for key in keys) + f"{'ratio':>8}  each run"]
    for name, figures in medians.items():
        cells = "".join(f"{figures[key]:12.{2 if key.endswith('ms') else 1}f}" for key in keys)
        ratio = figures[keys[0]] / medians[ROUTE][keys[0]]
        each = ", ".join(f"{run[keys[0]]:.2f}" for run in found[name])
        lines.append(f"  {name:24}{cells}{ratio:8.2f}  {each}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*PARTS, "all"])
    parser.add_argument("--port", type=int, default=8460, help="the first of 12 free ports (default 8460)")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median is told (default 3)")
    parser.add_argument("--peers", type=Path, help="environment with sglang-router and vllm-router")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    everything: dict[str, dict[str, list[Figures]]] = {}
    for name in PARTS if options.what == "all" else [options.what]:
        part = PARTS[name]
        with all_started(Place(options.port, part.token_seconds, options.peers)) as servers:
            found = everything[name] = measured(part, servers, options.runs)
        if not options.json:
            print(told(part, found))
            print(f"  load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
    if options.json:
        print(json.dumps(everything, indent=2))


if __name__ == "__main__":
    main()
