"""Who shares what with whom: cache salts, adapters, priorities, keys."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import Served, serving
from tests.support.virtual_time import run_in_virtual_time

FLAGS = ("--max-model-len", "1024", "--max-num-seqs", "1", "--enable-prompt-tokens-details")
PROMPT = [300] * 64
SHARED = 48


async def _cached(server: Served, **extra: Any) -> int:
    reply = await server.complete(prompt=PROMPT, max_tokens=2, **extra)
    assert reply.status == 200, reply.text
    cached: int = reply.json["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached


def test_salts_do_not_share() -> None:
    """Equal prompts share their blocks under equal salts only, and no salt is a salt of its own."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            salts = (None, None, "a", "b", "a", "b", None)
            cached = [
                await _cached(server, **({} if salt is None else {"cache_salt": salt})) for salt in salts
            ]
            assert cached == [0, SHARED, 0, 0, SHARED, SHARED, SHARED]
            messages = [{"role": "user", "content": "word " * 60}]
            told = [
                (await server.chat(messages=messages, max_tokens=1, cache_salt=salt)).json["usage"]
                for salt in ("a", "b", "a")
            ]
            assert [usage["prompt_tokens_details"]["cached_tokens"] > 0 for usage in told] == [
                False,
                False,
                True,
            ]

    run_in_virtual_time(main())


def test_adapters_are_models_of_their_own(tmp_path: Path) -> None:
    """They answer by their names, are listed, say other things than the model, and share no blocks with it."""
    names = ("french", "german")
    for name in names:
        config = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    modules = [f"{name}={tmp_path / name}" for name in names]

    async def main() -> None:
        async with serving(*FLAGS, "--enable-lora", "--lora-modules", *modules) as server:
            listed = [model["id"] for model in (await server.get("/v1/models")).json["data"]]
            assert listed[1:] == list(names)
            models = (listed[0], "french", "german", "french", listed[0])
            assert [await _cached(server, model=model) for model in models] == [0, 0, 0, SHARED, SHARED]
            replies = [
                await server.complete(model=model, prompt=PROMPT, max_tokens=8) for model in models[:3]
            ]
            assert [reply.json["model"] for reply in replies] == list(models[:3])
            assert len({reply.json["choices"][0]["text"] for reply in replies}) == 3
            assert (await server.complete(model="latin", prompt=PROMPT)).status == 404

    run_in_virtual_time(main())


@pytest.mark.parametrize("policy", ["priority", "fcfs"])
@pytest.mark.parametrize("is_header", [True, False])
def test_the_urgent_come_first(policy: str, is_header: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """With `--scheduling-policy priority` small numbers first, else in the order of arrival; a header overrides the body."""
    ended: list[int] = []

    async def main() -> None:
        async with serving(*FLAGS, "--scheduling-policy", policy) as server:

            async def ask(priority: int) -> None:
                headers = {"X-Vllm-Priority": str(priority)} if is_header else {}
                given = 99 if is_header else priority
                reply = await server.complete(headers, prompt=PROMPT, max_tokens=20, priority=given)
                assert reply.status == 200, reply.text
                ended.append(priority)

            tasks = []
            for priority in (0, 5, 3, 4, 1):
                tasks.append(asyncio.create_task(ask(priority)))
                await asyncio.sleep(0.001)
            await asyncio.gather(*tasks)

    run_in_virtual_time(main())
    assert ended == ([0, 1, 3, 4, 5] if policy == "priority" else [0, 5, 3, 4, 1])


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/models", "/tokenize"])
def test_a_key_is_needed_where_one_was_set(path: str) -> None:
    """Without it, or with a wrong one, nothing is done; probes need none."""

    async def main() -> None:
        async with serving(*FLAGS, "--api-key", "first", "second") as server:
            body = {"model": "llama-3.1-8b", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}
            is_get = path == "/v1/models"
            for given, is_known in (
                (None, False), ("Bearer wrong", False), ("Basic first", False), ("Bearer first", True), ("bearer second", True),
            ):  # fmt: skip
                headers = {} if given is None else {"Authorization": given}
                reply = await (server.get(path, headers) if is_get else server.post(path, body, headers))
                assert (reply.status != 401) is is_known
                assert is_known or reply.json == {"error": "Unauthorized"}
            for probe in ("/health", "/metrics", "/version"):
                assert (await server.get(probe)).status == 200

    run_in_virtual_time(main())
