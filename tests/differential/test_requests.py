"""Requests come from their seed and number alone, and cover what a client may send."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from tests.differential.conftest import Recorded
from tests.differential.recording import digest
from tests.differential.requests import request

MOST_TOKENS = 8


def _bodies(count: int = 1000) -> list[dict[str, Any]]:
    bodies = []
    for number in range(count):
        asked = request(3, number)
        if asked.path in {"/v1/completions", "/v1/chat/completions"}:
            try:
                body = json.loads(asked.body)
            except ValueError:
                continue
            if isinstance(body, dict):
                bodies.append(body)
    return bodies


def test_a_seed_gives_the_same_requests_in_another_process() -> None:
    """No request depends on the process that makes it."""
    script = (
        "from tests.differential.recording import digest; from tests.differential.requests import request;"
        "print(digest([request(5, number) for number in range(300)]))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert digest([request(5, number) for number in range(300)]) == other.stdout.strip()
    assert digest([request(6, number) for number in range(300)]) != other.stdout.strip()


def test_no_request_keeps_the_judge_long() -> None:
    """A limit of tokens that is accepted is small; one that is not is refused."""
    for body in _bodies():
        limits = [body.get("max_tokens"), body.get("max_completion_tokens")]
        accepted = [limit for limit in limits if isinstance(limit, int) and 0 < limit <= 4096]
        assert all(limit <= MOST_TOKENS for limit in accepted)


def test_every_field_occurs_with_many_values() -> None:
    """A thousand requests hold each field of completions and chats."""
    seen = Counter(name for body in _bodies(2000) for name in body)
    for name in (
        "n",
        "echo",
        "logprobs",
        "stop",
        "tools",
        "stream_options",
        "cache_salt",
        "response_format",
        "messages",
    ):
        assert seen[name] > 5, name


def test_vllm_accepted_some_and_refused_others_of_every_kind(recorded: Recorded) -> None:
    """The recording holds answers, streams and errors of each of the routes that generate."""
    seen: dict[str, Counter[str]] = {}
    for asked, answer in recorded:
        stream = answer.header("content-type").startswith("text/event-stream")
        seen.setdefault(asked.path, Counter())["stream" if stream else str(answer.status)] += 1
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"):
        assert {"200", "400", "stream"} <= set(seen[path]), path
    assert {"200", "307", "400", "403", "404", "405"} <= {
        status for counts in seen.values() for status in counts
    }
