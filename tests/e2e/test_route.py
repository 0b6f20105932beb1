"""`understudy route` from its start to its end, as a process that a script runs."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.processes import TIMEOUT_SECONDS, environment
from tests.e2e.routing import ROUTE, routing, until_ready, workers
from tests.e2e.served import Server, served

EVERYWHERE = "0.0.0.0"  # noqa: S104 - it is refused
CANARY = "xylophone-zanzibar"
SLOW = ("--decode-seconds-per-step", "0.05", "--max-model-len", "100000")
STREAM = {"prompt": "tell me", "max_tokens": 20, "stream": True, "ignore_eos": True}


def stream(router: Server, num_tokens: int = 20) -> http.client.HTTPResponse:
    """Begin a stream, and return it when its first event has come."""
    answer = router.request("/v1/completions", STREAM | {"max_tokens": num_tokens})
    assert answer.status == 200
    assert answer.readline().startswith(b"data: ")
    return answer


def access_lines(router: Server) -> list[dict[str, object]]:
    """Return what the access log has."""
    return [json.loads(line) for line in router.log if line.startswith("{")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_streams_finish(number: signal.Signals) -> None:
    """Nobody new is let in, what runs comes to its end, and the status is 0."""
    with workers(1, *SLOW) as urls, routing(urls) as router:
        until_ready(router)
        answers = [stream(router) for _ in range(4)]
        router.process.send_signal(number)
        router.wait_for("Draining")
        with pytest.raises(ConnectionError):
            router.request("/health")
        for answer in answers:
            assert answer.read().endswith(b"data: [DONE]\n\n")
        assert router.end() == 0
        assert router.log[-2].endswith("Router shutdown complete.\n")
        assert [line["outcome"] for line in access_lines(router)] == ["complete"] * 4
        assert "Traceback" not in router.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(number: signal.Signals, status: int) -> None:
    """As it ends `understudy serve`, though a stream would run for minutes."""
    with workers(1, *SLOW) as urls, routing(urls) as router:
        until_ready(router)
        stream(router, 5000)
        router.process.send_signal(number)
        router.wait_for("Draining")
        begun = time.monotonic()
        assert router.stop(number) == status
        assert time.monotonic() - begun < 1
        assert "Traceback" not in router.text


def test_draining_is_bounded() -> None:
    """By `--drain-seconds`; the stream ends with the error that says so, or without its end."""
    with workers(1, *SLOW) as urls, routing(urls, "--drain-seconds", "0.2") as router:
        until_ready(router)
        answer = stream(router, 5000)
        assert router.stop() == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            assert not answer.read().endswith(b"data: [DONE]\n\n")
        assert "Traceback" not in router.text


def test_sighup_reads_the_settings_again(tmp_path: Path) -> None:
    """What changed takes effect or is named; a broken file changes nothing, and no signal ends it."""
    file = tmp_path / "route.yaml"
    with workers(2) as urls:
        file.write_text(json.dumps({"worker": [urls[0]], "policy": "prefix"}))
        with routing((), "--config", str(file)) as router:
            until_ready(router)
            file.write_text("policy: [")
            router.process.send_signal(signal.SIGHUP)
            assert "no YAML; nothing has changed" in router.wait_for("nothing has changed")
            assert router.request("/v1/completions", {"prompt": "x", "max_tokens": 1}).status == 200
            changed = {
                "worker": [urls[1]],
                "policy": "round-robin",
                "worker_headers": False,
                "block_size": 32,
            }
            file.write_text(json.dumps(changed))
            router.process.send_signal(signal.SIGHUP)
            assert "only a restart changes --block-size" in router.wait_for("Settings reloaded")
            until_ready(router)
            answer = router.request("/v1/completions", {"prompt": "x", "max_tokens": 1})
            assert (answer.status, answer.getheader("X-Understudy-Worker")) == (200, None)
            assert router.stop() == 0
            assert [line["worker"] for line in access_lines(router)] == list(urls)
            assert "Traceback" not in router.text


def test_secrets_are_told_nowhere() -> None:
    """Neither keys nor prompts nor answers get to standard error, whatever goes wrong."""
    with workers(1) as urls:
        variables = {
            "UNDERSTUDY_ROUTE_API_KEY": f"{CANARY}-key",
            "UNDERSTUDY_ROUTE_TENANT_SALT_SECRET": f"{CANARY}-salt",
        }
        with routing([*urls, "http://127.0.0.1:1"], "--tenant-salt", "key", **variables) as router:
            until_ready(router)
            key = {"Authorization": f"Bearer {CANARY}-key"}
            wrong = {"Authorization": f"Bearer {CANARY}-wrong"}
            body = {"prompt": f"{CANARY} tell me", "max_tokens": 5, "cache_salt": CANARY, "user": CANARY}
            whole = json.loads(router.request("/v1/completions", body, key).read())
            assert (
                router.request("/v1/completions", body | {"stream": True}, key).read().endswith(b"[DONE]\n\n")
            )
            assert router.request("/v1/completions", body, wrong).status == 401
            assert router.request("/v1/completions", body | {"temperature": CANARY}, key).status == 400
            assert router.request(f"/v1/nothing?key={CANARY}", None, key).status == 404
            assert router.request("/v1/chat/completions", {"messages": CANARY}, key).status == 400
            assert router.request("/abort_requests", {"request_ids": CANARY}, key).status in {400, 404, 502}
            page = router.request("/metrics").read().decode()
            assert router.stop() == 0
            assert len(access_lines(router)) == 7
            for text in (router.text, page):
                assert CANARY not in text
                assert whole["choices"][0]["text"].strip() not in text
                assert "Traceback" not in text


def test_it_goes_on_without_standard_error() -> None:
    """Whoever reads the log may leave: requests are answered, and it ends well."""
    with workers(1) as urls:
        read_end, write_end = os.pipe()
        command = [sys.executable, *ROUTE, "--port", str(_free_port()), "--worker", urls[0]]
        with subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write_end
        ) as process:
            try:
                os.close(write_end)
                with os.fdopen(read_end) as log:
                    assert any("Routing on" in line for line in iter(log.readline, ""))
                router = _Port(int(command[command.index("--port") + 1]))
                router.until_ready()
                for _ in range(5):
                    assert router.ask("POST", "/v1/completions", b'{"prompt": "x", "max_tokens": 1}') == 200
                process.send_signal(signal.SIGTERM)
                assert process.wait(TIMEOUT_SECONDS) == 0
            finally:
                process.kill()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class _Port:
    """A server of which only the port is known."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, body: bytes | None = None) -> int:
        """Send a request and return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
        connection.request(method, path, body, {"Connection": "close", "Content-Type": "application/json"})
        return connection.getresponse().status

    def until_ready(self) -> None:
        """Wait until some worker may get requests."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.ask("GET", "/health") != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_start_that_fails_says_why() -> None:
    """In one line, with the status of a wrong command line, or of something that could not be used."""
    for status, words, flags in (
        (2, "is open to the network: give an --api-key, or --insecure", ("--host", EVERYWHERE)),
        (2, "cannot listen on 127.0.0.1:99999", ("--port", "99999")),
        (1, "--ssl-certfile: cannot read nowhere", ("--ssl-certfile", "nowhere", "--ssl-keyfile", "nowhere")),
        (1, "--workers-file: /dev/zero is no regular file", ("--workers-file", "/dev/zero")),
    ):
        with served("--worker", "http://127.0.0.1:1", *flags, command=ROUTE) as router:
            assert router.end() == status
            assert router.text.startswith("understudy: ")
            assert words in router.text
            assert router.text.count("\n") == 1
