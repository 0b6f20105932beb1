"""What the server takes for a token and for an open stream, and how late its steps start."""

import asyncio
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.servers import Server, floor, guidellm, understudy, vllm
from benchmarks.stream_load import CHAT, COMPLETIONS, Load, request_bytes, run_load

from understudy.server.engine_loop import FREE_STEPS_A_TURN

OURS, FLOOR = "understudy", "floor"

STREAMS = 256
TOKENS = 128
REQUESTS = {"vllm": 256}
"""Of others 1,024; where a server is slower, fewer say as much."""

PACES = {"free": 0.0, "10 ms a token": 0.01}
"""Seconds from one token of a stream to the next: as fast as can be, and as from a GPU."""

OPEN_STREAMS = 1000
WARM_UP_STREAMS = 16
WARM_UP_TOKENS = 32

LATENESS_REQUESTS, LATENESS_TOKENS, RAMP_SECONDS = 1024, 256, 2.0
"""Requests come and go one by one, as they do where nobody waits for anybody."""

Figures = list[dict[str, Any]]


# -- tokens a CPU second -----------------------------------------------------------------------------------


def token_figures(port: int, guidellm_python: Path | None, vllm_python: Path | None, runs: int) -> Figures:
    """Return for each pace, path and server the medians; servers whose environment is not given are left out.

    All run at once, and are loaded by turns. They take the ports from `port` on.
    """
    rows: Figures = []
    for pace, seconds in PACES.items():
        with ExitStack() as stack:
            servers = {OURS: stack.enter_context(understudy(port, *_paced(seconds)))}
            if guidellm_python is not None:
                start = guidellm(guidellm_python, port + 1, 1000 * seconds)
                servers["guidellm"] = stack.enter_context(start)
            if vllm_python is not None:
                servers["vllm"] = stack.enter_context(vllm(vllm_python, port + 2, seconds))
            for path in (COMPLETIONS, CHAT):
                rows += [{"pace": pace, **row} for row in _token_rows(servers, path, port + 3, seconds, runs)]
    return rows


def _token_rows(servers: dict[str, Server], path: str, floor_port: int, seconds: float, runs: int) -> Figures:
    """Return what each server takes, and what one does that only writes events of the size of ours."""
    warm_up = Load(path, STREAMS, STREAMS, WARM_UP_TOKENS)
    warm = {name: run_load(server.port, warm_up) for name, server in servers.items()}
    event_bytes = round(warm[OURS].num_bytes / warm[OURS].events)
    # Where no time passes, ours too writes several steps at once.
    writes = (1,) if seconds else (1, FREE_STEPS_A_TURN)
    with ExitStack() as stack:
        for tokens_a_write in writes:
            name = FLOOR if tokens_a_write == 1 else f"{FLOOR} / {tokens_a_write}"
            start = floor(floor_port + tokens_a_write, event_bytes, seconds, tokens_a_write)
            servers = {**servers, name: stack.enter_context(start)}
        measured: dict[str, Figures] = {name: [] for name in servers}
        for _ in range(runs):
            for name, server in servers.items():
                load = Load(path, STREAMS, REQUESTS.get(name, 1024), TOKENS)
                measured[name].append(_token_figures(server, load))
    return _compared([_row(name, path, figures) for name, figures in measured.items()])


def _token_figures(server: Server, load: Load) -> dict[str, float]:
    before, kernel_before = server.cpu_seconds, server.kernel_seconds
    result = run_load(server.port, load)
    return {
        "tokens_per_cpu_second": load.total_tokens / (server.cpu_seconds - before),
        "kernel_us_per_token": 1e6 * (server.kernel_seconds - kernel_before) / load.total_tokens,
        "tokens_per_wall_second": load.total_tokens / result.wall_seconds,
        "events_per_token": result.events / load.total_tokens,
    }


def _row(name: str, path: str, figures: Figures) -> dict[str, Any]:
    rates = [each["tokens_per_cpu_second"] for each in figures]
    medians = {kind: statistics.median(each[kind] for each in figures) for kind in figures[0]}
    return {"path": path, "server": name, **medians, "lowest": min(rates), "highest": max(rates)}


def _compared(rows: Figures) -> Figures:
    """Add how many times the tokens of each ours reaches, and the floor, with its own time and with the kernel's alone."""
    rate_of = {row["server"]: row["tokens_per_cpu_second"] for row in rows}
    least_us = next(row["kernel_us_per_token"] for row in rows if row["server"] == FLOOR)
    return [
        {
            **row,
            "ratio": rate_of[OURS] / row["tokens_per_cpu_second"],
            "floor_ratio": rate_of[FLOOR] / row["tokens_per_cpu_second"],
            "kernel_floor_ratio": 1e6 / least_us / row["tokens_per_cpu_second"],
        }
        for row in rows
    ]


def _paced(seconds: float) -> list[str]:
    if not seconds:
        return ["--time-scale", "0"]
    free = [
        "--prefill-base-seconds",
        "0",
        "--prefill-cached-seconds",
        "0",
        "--prefill-seconds-per-block",
        "0",
    ]
    return ["--decode-seconds-per-step", str(seconds), *free]


def print_tokens(rows: Figures) -> None:
    """Print a table."""
    print(
        f"{STREAMS} streams of {TOKENS} tokens; medians; times this one: ours, the floor, the floor's kernel time alone"
    )
    print(
        f"{'pace':15}{'path':22}{'server':12}{'tokens/CPU s':>13}{'(lowest-highest)':>22}{'us/token':>9}{'in kernel':>10}"
        f"{'tokens/s':>10}{'events/token':>13}{'ours':>8}{'floor':>7}{'kernel':>7}"
    )
    for row in rows:
        spread = f"({row['lowest']:,.0f}-{row['highest']:,.0f})"
        print(
            f"{row['pace']:15}{row['path']:22}{row['server']:12}{row['tokens_per_cpu_second']:>13,.0f}{spread:>22}"
            f"{1e6 / row['tokens_per_cpu_second']:>9.2f}{row['kernel_us_per_token']:>10.2f}"
            f"{row['tokens_per_wall_second']:>10,.0f}{row['events_per_token']:>13.2f}"
            f"{row['ratio']:>8.2f}{row['floor_ratio']:>7.1f}{row['kernel_floor_ratio']:>7.1f}"
        )


# -- memory of an open stream ------------------------------------------------------------------------------


def memory_figures(port: int, runs: int) -> dict[str, Any]:
    """Return the resident memory of a server without streams, and what each of 1,000 open ones adds."""
    with _many_files():
        found = [asyncio.run(_memory(port)) for _ in range(runs)]
    idle, per_stream = zip(*found, strict=True)
    return {
        "streams": OPEN_STREAMS,
        "idle_mib": statistics.median(idle) / 1024,
        "kib_per_stream": statistics.median(per_stream),
        "lowest": min(per_stream),
        "highest": max(per_stream),
    }


async def _memory(port: int) -> tuple[float, float]:
    with understudy(port, "--time-scale", "1000") as server:
        for writer in await _open(server, WARM_UP_STREAMS):
            writer.close()
        await asyncio.sleep(1)
        idle_kib = server.resident_kib
        writers = await _open(server, OPEN_STREAMS)
        await asyncio.sleep(1)
        open_kib = server.resident_kib
        for writer in writers:
            writer.close()
    return idle_kib, (open_kib - idle_kib) / OPEN_STREAMS


async def _open(server: Server, count: int) -> list[asyncio.StreamWriter]:
    """Open streams whose headers have come, and whose tokens are far off."""

    async def open_one(number: int) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request_bytes(CHAT, "m", 256, number))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        return writer

    return await asyncio.gather(*(open_one(number) for number in range(count)))


@contextmanager
def _many_files() -> Iterator[None]:
    """Let this process and the server have as many open files as the system lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def print_memory(found: dict[str, Any]) -> None:
    """Print a table."""
    print(f"{found['streams']} open streams that wait for their first token")
    print(
        f"idle {found['idle_mib']:.1f} MiB, {found['kib_per_stream']:.1f} KiB a stream"
        f" ({found['lowest']:.1f}-{found['highest']:.1f})"
    )


# -- how late steps start ----------------------------------------------------------------------------------


def lateness_figures(port: int, runs: int) -> dict[str, Any]:
    """Return how late steps started under 256 streams, at the catalogue's latency, and the CPU that it took."""
    load = Load(
        COMPLETIONS, STREAMS, LATENESS_REQUESTS, LATENESS_TOKENS, ramp_seconds=RAMP_SECONDS, is_uneven=True
    )
    found: list[dict[str, float]] = []
    with understudy(port) as server:
        run_load(port, load._replace(requests=STREAMS, tokens=16))
        for _ in range(runs):
            before, cpu_seconds, start_seconds = _lags(server), server.cpu_seconds, time.monotonic()
            run_load(port, load)
            wall_seconds = time.monotonic() - start_seconds
            counts = {bound: count - before[bound] for bound, count in _lags(server).items()}
            found.append(
                {
                    "p50_ms": 1000 * _quantile(counts, 0.5),
                    "p99_ms": 1000 * _quantile(counts, 0.99),
                    "cpu_share": (server.cpu_seconds - cpu_seconds) / wall_seconds,
                    "steps": counts[float("inf")],
                }
            )
    medians = {name: statistics.median(each[name] for each in found) for name in found[0]}
    return {"streams": STREAMS, **medians, "lowest_p99_ms": min(each["p99_ms"] for each in found)}


def _lags(server: Server) -> dict[float, float]:
    """Return how many steps were at most so many seconds late, by bound."""
    counts: dict[float, float] = {}
    for line in server.page("/metrics").splitlines():
        if line.startswith('understudy:step_lag_seconds_bucket{le="'):
            bound, _, count = line.partition('le="')[2].partition('"} ')
            counts[float(bound)] = float(count)
    return counts


def _quantile(counts: dict[float, float], share: float) -> float:
    """Return a quantile of cumulative counts, as if each bucket were evenly filled."""
    wanted = share * counts[float("inf")]
    low, below = 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def print_lateness(found: dict[str, Any]) -> None:
    """Print a table."""
    print(
        f"{found['streams']} streams in real time, {found['steps']:,.0f} steps, CPU {found['cpu_share']:.0%}"
    )
    print(
        f"steps start late by {found['p50_ms']:.2f} ms at p50, {found['p99_ms']:.2f} ms at p99"
        f" (best run {found['lowest_p99_ms']:.2f})"
    )
