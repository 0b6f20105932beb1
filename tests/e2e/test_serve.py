"""`understudy serve` from its start to its end, as a process that a script runs."""

import http.client
import json
import os
import signal
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.processes import understudy
from tests.e2e.served import MODEL, SERVE, SERVE_WITHOUT_UVLOOP, Server, served

CANARY = "xylophone-zanzibar"
SLOW = ("--decode-seconds-per-step", "0.05", "--max-model-len", "100000")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _is_refused(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("command", [SERVE, SERVE_WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
def test_it_serves_and_keeps_secrets(command: Sequence[str]) -> None:
    """Whole and streamed answers, errors too; neither keys nor prompts nor answers get into the log; SIGTERM ends it well."""
    flags = ("--api-key", f"{CANARY}-key", "--uvicorn-log-level", "debug", "--enable-log-requests")
    with served(*flags, command=command, variables={"VLLM_SERVER_DEV_MODE": "1"}) as server:
        server.wait_until_it_serves()
        assert server.request("/health").status == 200
        key = {"Authorization": f"Bearer {CANARY}-key"}
        body = {"prompt": f"{CANARY} tell me", "max_tokens": 5}
        whole = json.loads(server.request("/v1/completions", body, key).read())
        stream = server.request("/v1/completions", body | {"stream": True}, key).read()
        assert stream.endswith(b"data: [DONE]\n\n")
        assert stream.count(b"data: ") == 6
        wrong = {"Authorization": f"Bearer {CANARY}-wrong"}
        assert server.request("/v1/completions", body, wrong).status == 401
        assert server.request("/v1/completions", body | {"temperature": CANARY}, key).status == 400
        assert server.request(f"/v1/{CANARY}?key={CANARY}", None, key).status == 404
        assert server.request("/v1/chat/completions", {"messages": CANARY}, key).status == 400
        assert server.stop() == 0
        assert CANARY not in server.text
        assert whole["choices"][0]["text"].strip() not in server.text
        assert "Traceback" not in server.text
        assert server.log[-2].endswith("Application shutdown complete.\n")


def test_connections_are_refused_while_the_model_loads() -> None:
    """`--startup` holds the port: nobody is let in, nobody else gets it, and a signal ends the wait."""
    port = _free_port()
    with served("--port", str(port), "--startup", "3") as server:
        server.wait_for("Loading the model")
        assert _is_refused(port)
        with served("--port", str(port)) as early:
            assert early.end() == 2
        server.wait_until_it_serves()
        assert server.port == port
        assert server.request("/health").status == 200
        with served("--port", str(port)) as second:
            assert second.end() == 2
            assert (
                second.log[-2] == f"understudy: cannot listen on 127.0.0.1:{port}: Address already in use\n"
            )
            assert "Traceback" not in second.text
        assert server.stop(signal.SIGINT) == 0
    with served("--startup", "1000") as server:
        server.wait_for("Loading the model")
        assert server.stop() == 0


def _first_events(server: Server, max_tokens: int) -> socket.socket:
    """Open a stream and return its connection once tokens come."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    body = json.dumps({"model": MODEL, "prompt": "hi", "max_tokens": max_tokens, "stream": True}).encode()
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    seen = b""
    while seen.count(b"data: ") < 2:
        seen += connection.recv(65536)
    return connection


def _rest(connection: socket.socket) -> bytes:
    seen = b""
    with connection:
        try:
            while piece := connection.recv(65536):
                seen += piece
        except ConnectionError:
            return seen
    return seen


@pytest.mark.parametrize(
    ("seconds", "max_tokens", "is_finished"), [("60", 20, True), ("1", 50_000, False), ("0", 50_000, False)]
)
def test_work_is_finished_within_the_time_for_it(seconds: str, max_tokens: int, is_finished: bool) -> None:  # noqa: FBT001 # a parameter
    """After SIGTERM streams go on for `--shutdown-timeout`, new connections are refused, and the status is 0 in any case."""
    with served("--shutdown-timeout", seconds, *SLOW) as server:
        server.wait_until_it_serves()
        connection = _first_events(server, max_tokens)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down")
        assert b"[DONE]" in _rest(connection) if is_finished else b"[DONE]" not in _rest(connection)
        assert server.end() == 0
        assert _is_refused(server.port)
        assert "Traceback" not in server.text


def test_what_cannot_be_served_is_told_in_one_line(tmp_path: Path) -> None:
    """With what was wrong by name, no traceback, and the status of wrong usage or of bad input."""
    (tmp_path / "faults.yaml").write_text("faults: [{kind: nonsense}]", encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.yaml")
    for status, words, flags in (
        (2, "unrecognized arguments: --no-such-flag", ("--no-such-flag",)),
        (2, "unknown model 'nobody/knows'", ("--model", "nobody/knows")),
        (1, "no tokenizer at 'nowhere'", ("--tokenizer", "nowhere")),
        (1, "tokenizer.json", ("--tokenizer", ".")),
        (1, "nowhere.json: no such file", ("--generator", "dataset", "--generator-dataset", "nowhere.json")),
        (1, "cannot read nowhere.yaml", ("--faults", "nowhere.yaml")),
        (1, "faults.yaml is no fault plan", ("--faults", "faults.yaml")),
        (1, "nowhere.yaml: No such file or directory", ("--config", "nowhere.yaml")),
        (1, "pipe.yaml is no regular file", ("--config", "pipe.yaml")),
        (1, "pipe.yaml is no regular file", ("--faults", "pipe.yaml")),
        (1, "--chat-template pipe.yaml is no regular file", ("--chat-template", "pipe.yaml")),
        (2, "cannot listen on 127.0.0.1:99999: the port must be from 0 to 65535", ("--port", "99999")),
        (1, "--ssl-certfile: cannot read nowhere: No such file or directory", ("--ssl-certfile", "nowhere")),
        (2, "No adapter found for /nowhere", ("--enable-lora", "--lora-modules", "a=/nowhere")),
        (2, "LoRA is not enabled", ("--lora-modules", "a=org/adapter")),
    ):
        model = () if "--model" in flags else (MODEL,)
        finished = understudy("serve", *model, "--uvicorn-log-level", "error", *flags, cwd=tmp_path)
        assert finished.status == status, finished
        assert words in finished.stderr
        assert "Traceback" not in finished.stderr
        lines = finished.stderr.splitlines()
        assert len(lines) == (2 if lines[0].startswith("usage: ") else 1)
        assert lines[-1].startswith("understudy")


def test_it_speaks_https() -> None:
    """With the certificate and the key of the flags, to a client that checks it."""
    files = Path(__file__).parents[1] / "data" / "tls"
    certificate, key = str(files / "certificate.pem"), str(files / "key.pem")
    with served("--ssl-certfile", certificate, "--ssl-keyfile", key) as server:
        assert "https://" in server.wait_for("Serving on ")
        server.wait_until_it_serves()
        trust = ssl.create_default_context(cafile=certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trust)
        connection.request("GET", "/health", headers={"Connection": "close"})
        assert connection.getresponse().status == 200
        assert server.stop() == 0
