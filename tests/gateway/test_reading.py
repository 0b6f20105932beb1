"""Salts of tenants: whose prompts share cached blocks, and whose do not."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.gateway.behind import before, posted
from tests.gateway.routed import Routed, routed
from tests.server.serving import MODEL

PROMPT = "the quick brown fox jumps over the lazy dog " * 20
KEYS = ("one", "two")
SECRET = "s"  # noqa: S105 - stands for one


def authorization(key: str) -> Mapping[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {key}"}


async def cached_tokens(router: Routed, key: str, **body: Any) -> int:
    """Send the prompt, and return how many of its tokens the worker had."""
    reply = await router.complete(authorization(key), prompt=PROMPT, max_tokens=1, **body)
    assert reply.status == 200, reply.text
    details = reply.json["usage"]["prompt_tokens_details"]
    return 0 if details is None else int(details["cached_tokens"] or 0)


def test_two_keys_share_no_block_and_one_key_does() -> None:
    """Whatever salt a client sends, another tenant's included; the worker's own count says so."""

    async def scenario() -> None:
        async with routed(1, api_key=KEYS, tenant_salt="key") as router:
            assert await cached_tokens(router, "one") == 0
            assert await cached_tokens(router, "two") == 0
            shared = await cached_tokens(router, "one")
            assert shared > 0
            assert await cached_tokens(router, "two", cache_salt="x") == shared
            assert await cached_tokens(router, "one", cache_salt="y") == shared

    asyncio.run(scenario())


def test_without_the_flag_salts_are_the_clients() -> None:
    """Two keys share what they do not salt."""

    async def scenario() -> None:
        async with routed(1, api_key=KEYS) as router:
            assert await cached_tokens(router, "one") == 0
            assert await cached_tokens(router, "two") > 0
            assert await cached_tokens(router, "two", cache_salt="x") == 0

    asyncio.run(scenario())


def test_another_router_salts_alike() -> None:
    """After a restart, and behind two routers, a key finds its blocks; with another secret it does not."""

    async def salts(**choices: Any) -> list[str]:
        async with before({}, api_key=KEYS, tenant_salt="key", **choices) as (router, (worker,)):
            for key in KEYS:
                await router.complete(authorization(key), prompt="x")
            return [json.loads(asked.body)["cache_salt"] for asked in posted(worker)]

    async def scenario() -> None:
        first, second = await salts()
        assert first != second
        assert await salts() == [first, second]
        secret = await salts(tenant_salt_secret=SECRET)
        assert not set(secret) & {first, second}
        assert await salts(tenant_salt_secret=SECRET) == secret
        assert not any(key in salt for key in KEYS for salt in (first, second))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/embeddings",
        "/invocations",
        "/v1/%63ompletions",
    ],
)
def test_every_body_of_json_is_salted(path: str) -> None:
    """By whatever path it goes, and however that is spelled; the rest of it stays as it was."""

    async def scenario() -> None:
        async with before({}, api_key=KEYS, tenant_salt="key") as (router, (worker,)):
            body = {"model": MODEL, "prompt": "é", "x": [1, 2.5, None, {"y": "z"}], "cache_salt": "mine"}
            assert (await router.post(path, body, authorization("one"))).status == 200
            (asked,) = posted(worker)
            got = json.loads(asked.body)
            assert got.pop("cache_salt") != "mine"
            del body["cache_salt"]
            assert got == body

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "body", [b"[1]", b'{"a": NaN}', '{"prompt": "x"}'.encode("utf-16"), b"{" * 2000, b"x"]
)
def test_what_cannot_be_salted_is_refused(body: bytes) -> None:
    """Where a worker would take it for JSON: it might read it in another way. What is of another kind passes."""

    async def scenario() -> None:
        async with before({}, api_key=KEYS, tenant_salt="key") as (router, (worker,)):
            as_json = {**authorization("one"), "Content-Type": "Application/JSON; charset=utf-16"}
            plain = {**authorization("one"), "Content-Type": "multipart/form-data"}
            for path in ("/v1/completions", "/v1/messages"):
                reply = await router.post(path, body, as_json)
                assert (reply.status, reply.json["error"]["code"]) == (400, 400)
            assert (await router.post("/v1/%63ompletions", body, plain)).status == 400
            assert not posted(worker)
            assert (await router.post("/v1/audio/transcriptions", body, plain)).status == 200
            assert posted(worker)[0].body == body

    asyncio.run(scenario())


def test_bodies_pass_untouched_where_nothing_is_salted() -> None:
    """To the byte, JSON or not."""

    async def scenario() -> None:
        async with before({}, api_key=KEYS) as (router, (worker,)):
            bodies = [b'{"prompt" :"x" ,"prompt":  "y"}', b"\x00\xff", b'{"cache_salt": "s"}', b""]
            for body in bodies:
                await router.post("/v1/completions", body, authorization("one"))
            assert [asked.body for asked in posted(worker)] == bodies

    asyncio.run(scenario())
