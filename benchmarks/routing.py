"""Measures the router: its own CPU time for a relayed token, and for a short request.

    python -m benchmarks.routing tokens
    python -m benchmarks.routing requests

Router, worker and load are processes of one machine, so what counts is the router's CPU time. `--json` prints JSON.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.servers import Server
from benchmarks.stream_load import COMPLETIONS, Load, run_load

STREAMS = 256
TOKENS = 200
CLIENTS = 16
REQUESTS = 6000

_BODY = b'{"model": "m", "prompt": "say something short", "temperature": 0}'
_REQUEST = (
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer none\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_BODY), _BODY)


@contextlib.contextmanager
def started(port: int, module: str, *flags: str) -> Iterator[Server]:
    """Run a module of this folder as a server until the block ends."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--port", str(port), *flags]
    process = subprocess.Popen(command)
    try:
        _await_listening(process, port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    import socket  # noqa: PLC0415

    for _ in range(200):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def token_figures(port: int, token_seconds: float, router_flags: Sequence[str]) -> dict[str, Any]:
    """Relay so many paced streams; return CPU microseconds of the router for a token."""
    with (
        started(port + 1, "routing_upstream", "--token-seconds", str(token_seconds)) as worker,
        started(
            port, "routing_gateway", "--worker", f"http://127.0.0.1:{worker.port}", *router_flags
        ) as router,
    ):
        run_load(router.port, Load(COMPLETIONS, STREAMS, STREAMS, 5))
        before_seconds = router.cpu_seconds
        load = Load(COMPLETIONS, STREAMS, STREAMS, TOKENS)
        result = run_load(router.port, load)
        cpu_seconds = router.cpu_seconds - before_seconds
    assert result.events == load.total_tokens
    return {
        "streams": STREAMS,
        "tokens": load.total_tokens,
        "wall_seconds": result.wall_seconds,
        "cpu_us_per_token": cpu_seconds / load.total_tokens * 1e6,
        "cpu_share": cpu_seconds / result.wall_seconds,
    }


def request_figures(port: int, token_seconds: float, router_flags: Sequence[str]) -> dict[str, Any]:
    """Relay short requests; return CPU microseconds of the router for one."""
    del token_seconds
    with (
        started(port + 1, "routing_upstream") as worker,
        started(
            port, "routing_gateway", "--worker", f"http://127.0.0.1:{worker.port}", *router_flags
        ) as router,
    ):
        asyncio.run(_ask(router.port, CLIENTS * 10))
        before_seconds, start_seconds = router.cpu_seconds, time.monotonic()
        asyncio.run(_ask(router.port, REQUESTS))
        cpu_seconds, wall_seconds = router.cpu_seconds - before_seconds, time.monotonic() - start_seconds
    return {
        "clients": CLIENTS,
        "requests": REQUESTS,
        "wall_seconds": wall_seconds,
        "cpu_us_per_request": cpu_seconds / REQUESTS * 1e6,
    }


async def _ask(port: int, num_requests: int) -> None:
    numbers = iter(range(num_requests))
    await asyncio.gather(*(_client(port, numbers) for _ in range(CLIENTS)))


async def _client(port: int, numbers: Iterator[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in numbers:
        writer.write(_REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
    writer.close()


PARTS: dict[str, tuple[Callable[[int, float, Sequence[str]], dict[str, Any]], str]] = {
    "tokens": (token_figures, "cpu_us_per_token"),
    "requests": (request_figures, "cpu_us_per_request"),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*PARTS, "all"])
    parser.add_argument("--port", type=int, default=8460, help="the first of two free ports (default 8460)")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median is told (default 3)")
    parser.add_argument("--token-seconds", type=float, default=0.02, help="pace of tokens (default 0.02)")
    parser.add_argument("--uvloop", action="store_true", help="run the router on uvloop")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    flags = ["--uvloop"] if options.uvloop else []
    found: dict[str, Any] = {}
    for name in PARTS if options.what == "all" else [options.what]:
        measure, key = PARTS[name]
        runs = [measure(options.port, options.token_seconds, flags) for _ in range(options.runs)]
        found[name] = {"median": statistics.median(run[key] for run in runs), "runs": runs}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        each = ", ".join(f"{run[PARTS[name][1]]:.1f}" for run in figures["runs"])
        print(f"{name:10} {figures['median']:8.1f} us of the router's CPU each  ({each})")


if __name__ == "__main__":
    main()
