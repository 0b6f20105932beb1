"""Starts the routers that are compared, each as processes of its own on 127.0.0.1 before the same two workers."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.request_load import ask
from benchmarks.servers import ROOT, TOKENIZER, Server

DIRECT = "no router"
FLOOR = "forwarding alone"
ROUTE = "understudy route"
SILENT_ROUTE = "  without access log"
SGLANG = "sglang-router 0.3.2"
VLLM = "vllm-router 0.1.17"

NUM_WORKERS = 2
START_SECONDS = 60.0
_PORTS_OF_A_ROUTER = 2


class Place(NamedTuple):
    """Where things are: the first of some free ports, the pace of workers, and the environment with others' routers, if any."""

    port: int
    token_seconds: float
    peers: Path | None


@contextlib.contextmanager
def all_started(place: Place) -> Iterator[dict[str, Server]]:
    """Run two workers and before them every router; yield these by their names, and a worker as `DIRECT`."""
    with contextlib.ExitStack() as stack:
        workers: list[Server] = []
        for port in range(place.port, place.port + NUM_WORKERS):
            flags = ["--port", str(port), "--token-seconds", str(place.token_seconds)]
            command = [sys.executable, "-m", "benchmarks.routing_upstream", *flags]
            workers.append(stack.enter_context(_started(command, port)))
        urls = [f"http://127.0.0.1:{worker.port}" for worker in workers]
        servers = {DIRECT: workers[0]}
        port = place.port + NUM_WORKERS
        for name, command in _commands(urls, place.peers).items():
            flags = ["--port", str(port)]
            if name in {SGLANG, VLLM}:
                flags += ["--prometheus-port", str(port + 1)]
            servers[name] = stack.enter_context(_started([*command, *flags], port))
            port += _PORTS_OF_A_ROUTER
        yield servers


def _commands(workers: Sequence[str], peers: Path | None) -> dict[str, list[str]]:
    """Return how each router is started, all but its ports."""
    each_worker = [word for url in workers for word in ("--worker", url)]
    route = [sys.executable, "-m", "understudy", "route", "--policy", "prefix", "--knowledge", "own"]
    route += ["--tokenizer", str(TOKENIZER.parent), *each_worker]
    commands = {
        FLOOR: [sys.executable, "-m", "benchmarks.routing_gateway", "--uvloop", *each_worker],
        ROUTE: route,
        SILENT_ROUTE: [*route, "--no-access-log"],
    }
    if peers is not None:
        asked = ["--policy", "cache_aware", "--worker-startup-check-interval", "1", "--worker-urls", *workers]
        asked += ["--host", "127.0.0.1", "--log-level"]
        commands[SGLANG] = [str(peers / "bin" / "sglang-router"), "launch", *asked, "warn"]
        commands[VLLM] = [str(peers / "bin" / "vllm-router"), *asked, "warning"]
    return commands


@contextlib.contextmanager
def _started(command: Sequence[str], port: int) -> Iterator[Server]:
    """Run a server until the block ends; what it prints is thrown away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    silence = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=silence, stdout=silence, stderr=silence, env=environment)
    try:
        _await_answer(process, command, port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answer(process: subprocess.Popen[bytes], command: Sequence[str], port: int) -> None:
    until_seconds = time.monotonic() + START_SECONDS
    while time.monotonic() < until_seconds and process.poll() is None:
        with contextlib.suppress(OSError, AssertionError):
            ask(port, 1, 1)
            return
        time.sleep(0.1)
    sys.exit(f"does not come to answer: {' '.join(command)}")
