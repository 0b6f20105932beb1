"""SGLang's router before several servers: it finds them healthy, passes answers on, and a prompt returns to its cache.

python -m tests.differential.clients.sglang_router_run http://127.0.0.1:8000 http://127.0.0.1:8001
"""

import http.client
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.differential.clients.check import check

START_SECONDS = 60.0
CHATS = "/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 5}
TOPICS = ("apples", "bridges", "clouds", "dragons", "engines", "forests")
ALIKE = 6


def asked(place: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Return status and body of an answer; status 0 if there is none yet."""
    connection = http.client.HTTPConnection(place, timeout=60)
    try:
        connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def complete(place: str, prompt: str) -> int:
    """Ask for a completion and return the status."""
    body = {"model": "m", "prompt": prompt, "max_tokens": 8}
    return asked(place, "POST", "/v1/completions", body)[0]


def answered(servers: list[str]) -> list[int]:
    """Return how many answers each server has counted, a moment after the last one."""
    time.sleep(0.5)
    pages = [asked(server, "GET", "/metrics")[1].splitlines() for server in servers]
    return [
        sum(int(float(line.split()[-1])) for line in page if line.startswith("vllm:request_success_total{"))
        for page in pages
    ]


def check_answers(router: str) -> None:
    """Check what comes through the router."""
    ready = time.monotonic() + START_SECONDS
    while asked(router, "POST", CHATS, CHAT)[0] != 200 and time.monotonic() < ready:
        time.sleep(0.5)
    status, body = asked(router, "POST", CHATS, CHAT)
    check("a chat comes through", holds=status == 200 and json.loads(body)["usage"]["completion_tokens"] == 5)
    status, body = asked(router, "POST", CHATS, {**CHAT, "stream": True})
    check("a stream comes through to its end", holds=status == 200 and body.endswith("data: [DONE]\n\n"))
    check("a completion comes through", holds=complete(router, "hello") == 200)
    status, _ = asked(router, "POST", CHATS, {**CHAT, "temperature": -1})
    check("an error comes through", holds=status == 400)


def check_spread(router: str, servers: list[str]) -> None:
    """Check which servers the router chose."""
    before = answered(servers)
    with ThreadPoolExecutor(len(TOPICS)) as at_once:
        list(at_once.map(lambda topic: complete(router, f"{topic} " * 40), TOPICS))
    between = answered(servers)
    check("prompts that differ reach every server", holds=all(map(int.__gt__, between, before)))
    for number in range(ALIKE):
        complete(router, f"{TOPICS[0]} " * 40 + str(number))
    more = [now - then for now, then in zip(answered(servers), between, strict=True)]
    check("prompts that begin alike reach one", holds=sorted(more) == [0] * (len(servers) - 1) + [ALIKE])


def main() -> None:
    """Start a router in front of the servers at the URLs, check, and stop it."""
    port, metrics = free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("sglang-router")),
        "launch",
        "--policy",
        "cache_aware",
        "--log-level",
        "error",
    ]
    command += ["--worker-urls", *sys.argv[1:], "--host", "127.0.0.1", "--port", str(port)]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics)]
    router = subprocess.Popen(command)
    try:
        check_answers(f"127.0.0.1:{port}")
        check_spread(f"127.0.0.1:{port}", [urlsplit(url).netloc for url in sys.argv[1:]])
    finally:
        router.terminate()
        router.wait(30)


main()
