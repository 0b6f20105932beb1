"""SGLang's router in front of the server: it finds it healthy, and passes chats, streams and errors on.

pip install sglang-router==0.3.2
python sglang_router_run.py http://127.0.0.1:8000 [more workers]
"""

import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

START_SECONDS = 60.0
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 5}


def check(what: str, *, holds: bool) -> None:
    """Print what was checked; end with 1 if it does not hold."""
    print(f"{'ok ' if holds else 'NOT'} {what}")
    if not holds:
        sys.exit(1)


def asked(port: int, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Return status and body of an answer; status 0 if there is none yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
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


def through(port: int) -> None:
    """Check what comes through the router."""
    chat = "/v1/chat/completions"
    ready = time.monotonic() + START_SECONDS
    while asked(port, chat, CHAT)[0] != 200 and time.monotonic() < ready:
        time.sleep(0.5)
    status, body = asked(port, chat, CHAT)
    check("a chat comes through", holds=status == 200 and json.loads(body)["usage"]["completion_tokens"] == 5)
    status, body = asked(port, chat, {**CHAT, "stream": True})
    check("a stream comes through to its end", holds=status == 200 and body.endswith("data: [DONE]\n\n"))
    status, _ = asked(port, "/v1/completions", {"model": "m", "prompt": "hello", "max_tokens": 5})
    check("a completion comes through", holds=status == 200)
    status, _ = asked(port, chat, {**CHAT, "temperature": -1})
    check("an error comes through", holds=status == 400)


def main() -> None:
    """Start a router in front of the servers at the URLs, check, and stop it."""
    port, metrics = free_port(), free_port()
    command = [
        *(
            str(Path(sys.executable).with_name("sglang-router")),
            "launch",
            "--worker-urls",
            *sys.argv[1:],
            "--policy",
            "cache_aware",
        ),
        *(
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--prometheus-host",
            "127.0.0.1",
            "--prometheus-port",
            str(metrics),
        ),
    ]
    router = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        through(port)
    finally:
        router.terminate()
        router.wait(30)


main()
