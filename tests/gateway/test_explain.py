"""What would become of a request: the truth, and nothing changes by asking."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from tests.gateway.behind import before, lists
from tests.gateway.routed import routed
from tests.server.serving import MODEL

from understudy.errors import PolicyError, UsageError
from understudy.routing import known_policies

PATH = "/v1/completions"


@pytest.mark.parametrize("policy", [name for name in known_policies() if name != "session"])
def test_the_next_request_goes_where_it_was_said(policy: str) -> None:
    """For the policy in use, chance and turns included, however often it is asked."""

    async def scenario() -> None:
        async with routed(3, policy=policy) as router:
            for number in range(8):
                asked = {"model": MODEL, "prompt": f"{'hello there ' * 40} {number % 3}", "max_tokens": 1}
                body = json.dumps(asked).encode()
                # Nothing is awaited from here: news of workers would change what is right.
                said = [router.router.explained(PATH, body) for _ in range(3)]
                prompt = router.router.prompts.read(PATH, body, {})
                assert prompt is not None
                chosen = router.router.fleet.choose(router.router.reader.inbound(PATH, body, prompt), ())
                assert said[0] == said[1] == said[2]
                (choice,) = [each for each in said[0]["policies"] if each["in_use"]]
                assert chosen is not None
                assert choice["policy"] == policy
                assert (choice["worker"], choice["reason"]) == (chosen.member.name, chosen.decision.reason)
                assert (await router.post(PATH, asked)).status == 200

    asyncio.run(scenario())


def test_only_who_serves_the_model_is_looked_at() -> None:
    """As when a request comes; without anybody there are no choices."""

    async def scenario() -> None:
        async with before(lists("a"), lists("b")) as (router, workers):
            document = router.router.explained(PATH, b'{"model": "b", "prompt": "x"}')
            assert [each["worker"] for each in document["workers"]] == [workers[1].url]
            assert {each["worker"] for each in document["policies"]} == {workers[1].url}
            for member in list(router.router.fleet):
                router.router.fleet.remove(member)
            document = router.router.explained(PATH, b'{"model": "b", "prompt": "x"}')
            assert (document["workers"], document["policies"], document["prompt_tokens"]) == ([], [], 1)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body"), [(PATH, b"{"), ("/v1/models", b"{}"), ("/%761/completions", b"{}")]
)
def test_what_has_no_prompt_is_not_explained(path: str, body: bytes) -> None:
    """It is an error of who asks."""

    async def scenario() -> None:
        async with before({}) as (router, _):
            with pytest.raises(UsageError, match="has no prompt that could be read"):
                router.router.explained(path, body)

    asyncio.run(scenario())


def test_a_policy_that_fails_is_told(tmp_path: Path) -> None:
    """By its name."""
    file = tmp_path / "fails.py"
    file.write_text("def choose(request, fleet, memory):\n    return 1 / 0\n")

    async def scenario() -> None:
        async with before({}, policy=f"{file}:choose") as (router, _):
            with pytest.raises(PolicyError, match=re.escape(str(file))):
                router.router.explained(PATH, b'{"prompt": "x"}')

    asyncio.run(scenario())
