"""Locust: users that stream chats for some seconds; a stream without its end mark is a failure.

python -m tests.differential.clients.locust_run http://127.0.0.1:8000
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from locust import HttpUser, task  # type: ignore[import-not-found]  # installed where this runs
from tests.differential.clients.check import check

ROOT = Path(__file__).resolve().parents[3]
USERS = 8


class Streamer(HttpUser):  # type: ignore[misc]  # Locust is not installed where types are checked
    """A user who asks again as soon as an answer has ended."""

    @task  # type: ignore[untyped-decorator]  # the same
    def chat(self) -> None:
        """Stream one chat."""
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 8,
            "stream": True,
        }
        with self.client.post("/v1/chat/completions", json=body, stream=True, catch_response=True) as answer:
            lines = [line for line in answer.iter_lines() if line]
            if answer.status_code != 200 or lines[-1] != b"data: [DONE]":
                answer.failure(f"{answer.status_code}, the end is {lines[-1:]}")
            else:
                answer.success()


def main() -> None:
    """Run this file as a Locust file against the server at the URL."""
    command = [str(Path(sys.executable).with_name("locust")), "--locustfile", __file__, "--headless"]
    command += ["--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", "10s", "--only-summary"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--host", sys.argv[1].rstrip("/"), "--csv", f"{folder}/locust"]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120, check=False)
        check("no stream fails", holds=done.returncode == 0)
        *_, total = csv.DictReader(Path(folder, "locust_stats.csv").read_text(encoding="utf-8").splitlines())
    check("each user has read several streams", holds=int(total["Request Count"]) >= 3 * USERS)


if __name__ == "__main__":
    main()
