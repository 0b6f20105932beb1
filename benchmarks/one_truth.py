"""Compares, in real time, what a router and its workers do with a trace with what the simulator says of it.

    python -m benchmarks.one_truth --policy prefix,least-loaded --speed 2

Starts `understudy serve` for each worker and `understudy route` before them, sends the trace with `understudy replay`, and simulates
it: with exact knowledge, with KV events that come at once, with the arrivals as the workers had them, and so that each decision
follows on those that the router has made, for one that differs brings about others. What is left then is what answers and events
need to reach the router.
`--json` prints JSON. Policy `session` goes by the workers' names, which a simulation does not have; it is not compared.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.servers import GPU, MODEL, START_SECONDS, Server, understudy

from understudy.fleet import (
    EngineChoices,
    FleetConfig,
    LatencyChoices,
    NewsTiming,
    Simulation,
    engine_setup,
)
from understudy.routing import (
    Choose,
    Decision,
    FleetView,
    Knowledge,
    PolicyMemory,
    RoutingRequest,
    load_policy,
)
from understudy.workload import OpenLoop, WorkloadRequest, open_trace, poisson

_NS_PER_SECOND = 1_000_000_000
_LATE_SECONDS = 0.01
"""From here on, by a clock on the wall, `understudy replay` calls a request late."""
_WORKER_FLAGS = (
    "--enable-prompt-tokens-details", "--simulated-time-headers", "--uvicorn-log-level", "warning", "--kv-events-config",
    json.dumps({"enable_kv_cache_events": True, "endpoint": "tcp://*:0", "replay_endpoint": "tcp://*:0"}),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is compared."""

    trace: str
    limit: int | None
    policy: str
    rate: float | None
    speed: float
    workers: int


class Outcome(NamedTuple):
    """What one side says of a request; times in seconds of the trace's clock, `worker` its place in the order of their addresses."""

    worker: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    arrival_seconds: float
    first_token_seconds: float
    finish_seconds: float


Outcomes = Mapping[str, Outcome]


class Row(NamedTuple):
    """One run beside the replay.

    `same_worker` is the share of requests that got the worker that they got there, `busiest` the part of the worker that got most.
    """

    run: str
    same_worker: float
    busiest: float
    hit_rate: float
    ttft_p50_ms: float
    ttft_p90_ms: float
    tpot_p50_ms: float


class Replayed(NamedTuple):
    """A replay: what came of each request, when it was sent, and when its worker had it."""

    outcomes: Outcomes
    sent_seconds: Mapping[str, float]
    reached_seconds: Mapping[str, float]


# -- real time -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fleet(case: Case, port: int) -> Iterator[Sequence[str]]:
    """Run a router on a port, and its workers and its admin API on those behind; yield the workers' addresses."""
    scale = repr(1 / case.speed)
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(understudy(port + 2 + number, *_WORKER_FLAGS, "--time-scale", scale))
            for number in range(case.workers)
        ]
        urls = [f"http://127.0.0.1:{worker.port}" for worker in workers]
        command = [
            *_understudy("route", "--port", str(port), "--admin-port", str(port + 1), "--no-access-log"),
            *("--policy", case.policy, "--knowledge", "events"),
            *(word for url in urls for word in ("--worker", url)),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _await_news(Server(process.pid, port + 1), case.workers)
            yield urls
        finally:
            process.terminate()
            process.wait()


def _await_news(admin: Server, num_workers: int) -> None:
    """Return when the router hears events of all its workers."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            workers = json.loads(admin.page("/workers"))["workers"]
            heard = [one for one in workers if one["health"] == "healthy" and one["knowledge"] == "events"]
            if len(heard) == num_workers:
                return
        time.sleep(0.1)
    sys.exit("the router does not hear its workers")


def replayed(case: Case, port: int) -> Replayed:
    """Start a fleet and send it the trace."""
    with tempfile.TemporaryDirectory() as folder, fleet(case, port) as urls:
        output = Path(folder) / "results"
        command = [
            *_understudy("replay", case.trace, "--url", f"http://127.0.0.1:{port}"),
            *("--speed", repr(case.speed)),
            *(() if case.rate is None else ("--arrivals", "poisson", "--rate", repr(case.rate))),
            *("--output", str(output)),
            *(() if case.limit is None else ("--limit", str(case.limit))),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [
            json.loads(line) for line in (output / "requests.jsonl").read_text(encoding="utf-8").splitlines()
        ]
    failed = [line for line in lines if line["status"] not in {"length", "stop"}]
    if failed:
        sys.exit(f"{len(failed)} requests failed, the first with {failed[0]['status']}")
    return Replayed(
        {line["id"]: _outcome(line, urls.index(line["worker_name"])) for line in lines},
        {line["id"]: line["sent_seconds"] for line in lines},
        _reached(lines),
    )


def _reached(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    """Return when each request reached its worker, by the trace's clock.

    Workers tell it by clocks of their own, which began at some time: the request that was fastest is taken to need no time.
    """
    ahead_seconds: dict[str, float] = {}
    for line in lines:
        ahead = line["simulated"]["arrival_seconds"] - line["sent_seconds"]
        name = line["worker_name"]
        ahead_seconds[name] = min(ahead_seconds.get(name, ahead), ahead)
    return {
        line["id"]: line["simulated"]["arrival_seconds"] - ahead_seconds[line["worker_name"]]
        for line in lines
    }


def _understudy(*words: str) -> list[str]:
    return [sys.executable, "-m", "understudy", *words]


def _outcome(line: Mapping[str, Any], worker: int) -> Outcome:
    return Outcome(worker, *(line[name] for name in Outcome._fields[1:]))


# -- virtual time ----------------------------------------------------------------------------------------------


def arrivals(case: Case) -> list[WorkloadRequest]:
    """Return the requests as they are due."""
    trace = open_trace(case.trace, limit=case.limit)
    return list(trace if case.rate is None else poisson(trace, case.rate, seed=0))


def simulated(
    case: Case, requests: Iterable[WorkloadRequest], knowledge: Knowledge, choose: Choose | None = None
) -> Outcomes:
    """Simulate the same fleet; KV events come at once."""
    setup = engine_setup(MODEL, GPU, EngineChoices(), LatencyChoices())
    config = FleetConfig(
        engine=setup.config,
        latency=setup.latency,
        num_workers=case.workers,
        policy=case.policy,
        choose=choose or load_policy(case.policy),
        knowledge=knowledge,
        news=NewsTiming(delay_ns=0),
    )
    simulation = Simulation(config, OpenLoop(requests))
    simulation.run()
    simulation.finish()
    lines = [record.line() for record in simulation.records]
    return {str(line["id"]): _outcome(line, int(line["worker"] or 0)) for line in lines}


class Led:
    """A policy that decides each request by itself, and is then led to where the router has sent it.

    So one difference does not bring about others. `chosen` are its own decisions.
    """

    def __init__(self, choose: Choose, real: Outcomes) -> None:
        self.chosen: dict[str, int] = {}
        self._choose = choose
        self._real = real

    def __call__(self, request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
        """Return the router's decision."""
        turn = memory.turn
        own = self._choose(request, fleet, memory)
        assert isinstance(own, Decision)
        self.chosen[request.request_id] = own.worker
        worker = self._real[request.request_id].worker
        if worker == own.worker:
            return own
        if memory.turn != turn:
            memory.turn = worker + 1
        return Decision(worker, fleet.matched_blocks(request)[worker], own.reason)


def as_reached(
    requests: Iterable[WorkloadRequest], reached_seconds: Mapping[str, float]
) -> list[WorkloadRequest]:
    """Return the requests with other arrivals, in the order of time."""
    moved = [
        replace(request, arrival_ns=max(round(reached_seconds[request.request_id] * _NS_PER_SECOND), 0))
        for request in requests
    ]
    return sorted(moved, key=lambda request: request.arrival_ns)


# -- results ---------------------------------------------------------------------------------------------------


def compared(case: Case, port: int) -> tuple[list[Row], str]:
    """Run all sides; return their rows and a sentence about how late requests were."""
    requests = arrivals(case)
    real = replayed(case, port)
    as_had = as_reached(requests, real.reached_seconds)
    led = Led(load_policy(case.policy), real.outcomes)
    runs = {
        "replay through the router": real.outcomes,
        "simulation, exact knowledge": simulated(case, requests, Knowledge.EXACT),
        "simulation, KV events at once": simulated(case, requests, Knowledge.EVENTS),
        "the same, arrivals as the workers had them": simulated(case, as_had, Knowledge.EVENTS),
    }
    rows = [row(name, outcomes, real.outcomes) for name, outcomes in runs.items()]
    outcomes = simulated(case, as_had, Knowledge.EVENTS, led)
    last = row("the same, each decision for itself", outcomes, real.outcomes)
    same = sum(led.chosen[request_id] == one.worker for request_id, one in real.outcomes.items())
    return [*rows, last._replace(same_worker=same / len(requests))], lateness(case, real)


def row(name: str, outcomes: Outcomes, real: Outcomes) -> Row:
    """Return the figures of one run."""
    each = list(outcomes.values())
    ttft = sorted(1000 * (one.first_token_seconds - one.arrival_seconds) for one in each)
    tpot = [
        1000 * (one.finish_seconds - one.first_token_seconds) / (one.output_tokens - 1)
        for one in each
        if one.output_tokens > 1
    ]
    same = sum(outcomes[request_id].worker == one.worker for request_id, one in real.items())
    return Row(
        name,
        same / len(real),
        max(Counter(one.worker for one in each).values()) / len(each),
        sum(one.cached_tokens for one in each) / sum(one.prompt_tokens for one in each),
        statistics.median(ttft),
        ttft[len(ttft) * 9 // 10],
        statistics.median(tpot),
    )


def lateness(case: Case, real: Replayed) -> str:
    """Return a sentence: how late requests were sent and reached workers, on the wall, and how many were due together."""
    due = {request_id: one.arrival_seconds for request_id, one in real.outcomes.items()}
    sent = [(real.sent_seconds[request_id] - at) / case.speed for request_id, at in due.items()]
    reached = sorted((real.reached_seconds[request_id] - at) / case.speed for request_id, at in due.items())
    together = len(due) - len(set(due.values()))
    return (
        f"{len(due):,} requests, {together:,} of them due at the very time of another; "
        f"{sum(seconds > _LATE_SECONDS for seconds in sent):,} were sent more than {_LATE_SECONDS * 1000:g} ms late; workers had "
        f"them {1000 * statistics.median(reached):.1f} ms after they were due in the median, {1000 * reached[-1]:.0f} ms at most."
    )


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'':44}{'same worker':>12}{'busiest':>9}{'hit rate':>10}{'TTFT p50':>11}{'TTFT p90':>11}{'TPOT p50':>11}"
    ]
    lines += [
        f"{one.run:44}{one.same_worker:>12.1%}{one.busiest:>9.1%}{one.hit_rate:>10.2%}{one.ttft_p50_ms:>8.0f} ms{one.ttft_p90_ms:>8.0f} ms"
        f"{one.tpot_p50_ms:>8.2f} ms"
        for one in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", default="conversation-1k")
    parser.add_argument("--limit", type=int, help="read only so many requests")
    parser.add_argument(
        "--rate", type=float, help="requests a second at random, in place of the trace's arrivals"
    )
    parser.add_argument("--policy", default="prefix,least-loaded")
    parser.add_argument(
        "--speed", type=float, default=2.0, help="workers and trace go so much faster than life"
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--port", type=int, default=8600, help="the router's; others have those behind it")
    parser.add_argument("--json", action="store_true")
    chosen = vars(parser.parse_args())
    as_json, port, policies = chosen.pop("json"), chosen.pop("port"), chosen.pop("policy").split(",")
    documents = []
    for policy in policies:
        rows, sentence = compared(Case(policy=policy, **chosen), port)
        documents.append({"policy": policy, "lateness": sentence, "runs": [one._asdict() for one in rows]})
        if not as_json:
            print(
                f"\n{policy}, {chosen['trace']} at {chosen['speed']:g} times its speed: {sentence}\n{_table(rows)}",
                flush=True,
            )
    if as_json:
        print(json.dumps(documents, indent=2))


if __name__ == "__main__":
    main()
