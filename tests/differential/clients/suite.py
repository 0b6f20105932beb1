"""Runs every client against servers of its own: `make test-clients`, which builds the environments that they need.

No pattern of pytest finds this file, so it runs only where it is named. Nothing is skipped: a client without its
environment fails.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from tests.differential.router.processes import router_before
from tests.e2e.served import Server, served
from tests.gateway.routed import FLAGS, events_flag

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TOKENIZER = ROOT / "tests" / "data" / "tokenizer" / "byte_level"
SERVE = ("-m", "understudy", "serve", str(TOKENIZER), "--served-model-name", "m", "--host", "127.0.0.1")
NO_CLIENTS = {"__init__", "check", "suite"}
CLIENT_SECONDS = 200
"""Far more than any of them takes, and less than pytest's own limit."""


class Client(NamedTuple):
    """A script of this folder, with what it needs to run."""

    script: str
    environment: str
    num_servers: int = 1
    reads_tokenizer: bool = False
    is_routed: bool = False
    """Whether it speaks with a router before the servers, which follows their KV events."""

    @property
    def name(self) -> str:
        """What a test of it is called."""
        return f"{self.script}-routed" if self.is_routed else self.script


CLIENTS = (
    Client("openai_sdk", ".venv-clients"),
    Client("langchain_client", ".venv-clients"),
    Client("litellm_client", ".venv-litellm"),
    Client("schemathesis_run", ".venv-clients"),
    Client("prometheus_metrics", ".venv-clients"),
    Client("locust_run", ".venv-clients"),
    Client("sglang_router_run", ".venv-clients", num_servers=2),
    Client("aiperf_run", ".venv-aiperf", reads_tokenizer=True),
    Client("guidellm_run", ".venv-guidellm", reads_tokenizer=True),
    Client("vllm_bench", ".venv-vllm", reads_tokenizer=True),
    Client("openai_sdk", ".venv-clients", num_servers=2, is_routed=True),
    Client("guidellm_run", ".venv-guidellm", num_servers=2, reads_tokenizer=True, is_routed=True),
    Client("vllm_bench", ".venv-vllm", num_servers=2, reads_tokenizer=True, is_routed=True),
)


@contextmanager
def running_servers(client: Client) -> Iterator[list[Server]]:
    """Start a client's servers, each on a port of its own, and yield them when they serve."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        servers = []
        for number in range(client.num_servers):
            flags = (*FLAGS, *events_flag(folder, number)) if client.is_routed else ()
            servers.append(stack.enter_context(served(*flags, command=SERVE)))
        for server in servers:
            server.wait_until_it_serves()
        yield servers


@contextmanager
def places(client: Client, servers: list[Server]) -> Iterator[Sequence[str]]:
    """Yield the URLs that a client gets: its servers', or that of a router before them."""
    urls = [f"http://127.0.0.1:{server.port}" for server in servers]
    if not client.is_routed:
        yield urls
        return
    with router_before(urls, "--tokenizer", str(TOKENIZER)) as router:
        yield [f"http://127.0.0.1:{router.port}"]
        assert all(not worker["notes"] for worker in router.known())
        assert all(router.blocks_known()), "One of the servers got nothing."


def status_of(command: list[str], output: Path) -> int:
    """Run a command, with all that it says in a file; what does not end is killed, and what it left behind."""
    with (
        output.open("wb") as out,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_client(client: Client, tmp_path: Path) -> None:
    """All that the client checks holds, and no server breaks down or complains of itself."""
    python = ROOT / client.environment / "bin" / "python"
    if not python.exists():
        pytest.fail(f"There is no {client.environment}; `make test-clients` builds it.", pytrace=False)
    output = tmp_path / "output"
    with running_servers(client) as servers:
        with places(client, servers) as urls:
            command = [str(python), "-m", f"tests.differential.clients.{client.script}", *urls]
            command += [str(TOKENIZER)] * client.reads_tokenizer
            status = status_of(command, output)
            said = output.read_text(encoding="utf-8", errors="replace")
            print(said)
            assert status == 0, f"{client.name} ended with {status}."
            assert "ok " in said, f"{client.name} has checked nothing."
        for server in servers:
            assert server.stop() == 0, server.text
            assert "Traceback" not in server.text, server.text


def test_every_script_is_run() -> None:
    """No script of this folder is forgotten."""
    assert {path.stem for path in HERE.glob("*.py")} - NO_CLIENTS == {client.script for client in CLIENTS}
