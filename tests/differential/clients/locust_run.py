"""Locust: users that stream chats for some seconds; a stream without its end mark is a failure.

pip install locust==2.47.0
python locust_run.py http://127.0.0.1:8000
"""

import subprocess
import sys
from pathlib import Path

from locust import HttpUser, task  # type: ignore[import-not-found]  # installed where this runs


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
    """Run this file as a Locust file against the server at the URL; Locust ends with 1 if a request failed."""
    command = [
        *(
            str(Path(sys.executable).with_name("locust")),
            "-f",
            __file__,
            "--headless",
            "-u",
            "8",
            "-r",
            "8",
            "-t",
            "10s",
        ),
        *("-H", sys.argv[1].rstrip("/"), "--only-summary"),
    ]
    done = subprocess.run(command, timeout=120, check=False)
    print(f"{'ok ' if done.returncode == 0 else 'NOT'} no stream fails")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
