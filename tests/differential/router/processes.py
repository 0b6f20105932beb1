"""Two real vLLM servers as processes, and routers in front of them."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tests.e2e.served import Server, served

ROOT = Path(__file__).parents[3]
TOKENIZER = str(ROOT / "tests" / "data" / "tokenizer" / "byte_level")
VLLM_ENVIRONMENT = ROOT / ".venv-vllm"
JUDGE = str(ROOT / "tests" / "differential" / "judge" / "serve.sh")

START_SECONDS = 240.0
"""Far more than vLLM takes to start on a busy machine."""
NUM_GPU_BLOCKS = 2000
"""Of each server; more than all but the last test fill."""
NEWS_SECONDS = 20.0
"""Far more than the router takes to hear of anything."""
_LOOK_SECONDS = 0.002

_ROUTING = re.compile(r"Routing on http://127\.0\.0\.1:(\d+) ")
_ADMIN = re.compile(r"Admin API on http://127\.0\.0\.1:(\d+)")


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    text: str


def asked(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """Send one request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=NEWS_SECONDS)
    try:
        given = None if body is None else json.dumps(body)
        connection.request(
            method,
            path,
            given,
            {"Content-Type": "application/json", "Connection": "close", **(headers or {})},
        )
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())
    finally:
        connection.close()


def until(what: str, holds: Callable[[], bool], seconds: float = NEWS_SECONDS) -> None:
    """Return when something holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds} s it is still not so: {what}"
        time.sleep(_LOOK_SECONDS)


class Vllm:
    """One vLLM server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def is_healthy(self) -> bool:
        """Whether it serves; fails if it has ended."""
        assert self.process.poll() is None, "vLLM has ended."
        with suppress(OSError, http.client.HTTPException):
            return asked(self.port, "GET", "/health").status == 200
        return False

    def prompt_of(self, body: dict[str, Any]) -> list[int]:
        """Return the tokens of a text or a conversation."""
        answer = asked(self.port, "POST", "/tokenize", {"model": "m", **body})
        assert answer.status == 200, answer.text
        tokens: list[int] = json.loads(answer.text)["tokens"]
        return tokens

    def num_running(self) -> float:
        """Return how many requests it says are running or waiting."""
        page = asked(self.port, "GET", "/metrics").text
        counts = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", page, re.MULTILINE)
        assert len(counts) == 2, counts
        return sum(map(float, counts))


@contextmanager
def vllm_servers() -> Iterator[list[Vllm]]:
    """Start two servers at once, whose KV events are heard over TCP and over a Unix socket; yield them when they serve."""
    ports = free_ports(4)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        endpoints = (
            (f"tcp://*:{ports[2]}", f"tcp://*:{ports[3]}"),
            (f"ipc://{folder}/events", f"ipc://{folder}/replay"),
        )
        servers = [
            Vllm(stack.enter_context(_vllm(port, *at)), port)
            for port, at in zip(ports, endpoints, strict=False)
        ]
        for server in servers:
            until("vLLM serves", server.is_healthy, START_SECONDS)
        yield servers


@contextmanager
def _vllm(port: int, endpoint: str, replay_endpoint: str) -> Iterator[subprocess.Popen[bytes]]:
    events = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": endpoint,
        "replay_endpoint": replay_endpoint,
    }
    command = [JUDGE, str(port), TOKENIZER, "--enable-prompt-tokens-details", "--block-size", "16"]
    command += ["--num-gpu-blocks-override", str(NUM_GPU_BLOCKS)]
    command += ["--kv-events-config", json.dumps(events)]
    variables = {"VLLM_ENV": str(VLLM_ENVIRONMENT), "VLLM_SERVER_DEV_MODE": "1"}
    given = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            command,
            env={**given, **variables, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(NEWS_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class Router:
    """A router in front of servers; `log` is what it wrote for each request."""

    def __init__(self, process: Server, urls: Sequence[str]) -> None:
        self.process = process
        self.urls = urls
        self.port = _port(_ROUTING, process.wait_for("Routing on "))
        self.admin_port = _port(_ADMIN, process.wait_for("Admin API on "))

    def known(self) -> list[dict[str, Any]]:
        """Return what it says of each worker, in the order of `urls`."""
        answer = asked(self.admin_port, "GET", "/workers")
        by_url = {document["url"]: document for document in json.loads(answer.text)["workers"]}
        return [by_url[url] for url in self.urls]

    def blocks_known(self) -> list[int]:
        """Return how many blocks it knows to be held by each worker."""
        return [worker["blocks_known"] for worker in self.known()]

    def log_of(self, request_id: str) -> dict[str, Any]:
        """Return the line of its log about a request."""
        line: dict[str, Any] = json.loads(self.process.wait_for(f'"request_id":"{request_id}"'))
        return line

    def is_healthy(self) -> bool:
        """Whether it routes to all its workers."""
        return all(worker["health"] == "healthy" for worker in self.known())


@contextmanager
def router_before(urls: Sequence[str], *flags: str) -> Iterator[Router]:
    """Start a router in front of the servers at these URLs, and yield it when it routes to all of them."""
    command = ["-m", "understudy", "route", "--admin-port", "0"]
    for url in urls:
        command += ["--worker", url]
    with served(*flags, command=command) as process:
        router = Router(process, urls)
        try:
            until("the router finds its workers healthy", router.is_healthy)
        except AssertionError as error:
            error.add_note(f"{router.known()}\n{process.text}")
            raise
        yield router
        assert process.stop() == 0, process.text
        assert "Traceback" not in process.text, process.text


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _port(pattern: re.Pattern[str], line: str) -> int:
    match = pattern.search(line)
    assert match is not None, line
    return int(match[1])
