"""What the router knows after an order through it has emptied the workers' caches."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.gateway.behind import Pages, before
from tests.gateway.routed import Routed, routed
from tests.server import serving

from understudy.server.arguments import ServeArguments
from understudy.server.settings import Settings, settings_of

PROMPT = list(range(1000, 1100))
RESET = "/reset_prefix_cache"


def known(router: Routed) -> dict[str, int]:
    """Return how many blocks of each worker the router knows."""
    return {worker["url"]: worker["blocks_known"] for worker in router.router.worker_documents()}


async def has_heard(router: Routed, num_blocks: int) -> None:
    """Wait until the router knows so many blocks in all."""
    async with asyncio.timeout(30):
        while sum(known(router).values()) != num_blocks:  # noqa: ASYNC110 - events and lists set no event
            await asyncio.sleep(0.01)


async def complete(router: Routed) -> Mapping[str, Any]:
    """Ask for one token and return the answer's usage."""
    reply = await router.complete(prompt=PROMPT, max_tokens=1)
    assert reply.status == 200
    usage: Mapping[str, Any] = reply.json["usage"]
    return usage


@pytest.mark.parametrize("knowledge", ["events", "heartbeat", "own"])
def test_a_reset_is_known_at_once(knowledge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the router learns what workers hold: no event and no list has to come, and what comes next is learnt."""

    def with_orders(arguments: ServeArguments, _environment: Mapping[str, str]) -> Settings:
        return settings_of(arguments, {"VLLM_SERVER_DEV_MODE": "1"})

    monkeypatch.setattr(serving, "settings_of", with_orders)

    async def scenario() -> None:
        async with routed(
            2,
            "--enable-kv-blocks-endpoint",
            has_events=knowledge == "events",
            knowledge=knowledge,
            synchronisation_seconds=0.05,
        ) as router:
            await complete(router)
            await has_heard(router, 6)
            reply = await router.post(RESET, b"")
            assert (reply.status, reply.json) == (200, {"success": True})
            assert set(known(router).values()) == {0}
            usage = await complete(router)
            assert usage["prompt_tokens_details"]["cached_tokens"] == 0
            await has_heard(router, 6)
            usage = await complete(router)
            assert usage["prompt_tokens_details"]["cached_tokens"] == 96

    asyncio.run(scenario())


@pytest.mark.parametrize("successes", [(False, False), (False, True), (True, False)])
def test_a_reset_that_fails_is_told(successes: Sequence[bool]) -> None:
    """Where blocks in use stay cached the router goes on to know them, and the client hears of it, whoever else has succeeded."""

    async def scenario() -> None:
        pages: list[Pages] = [{RESET: (200, {"success": success})} for success in successes]
        async with before(*pages, policy="round-robin") as (router, workers):
            for _ in workers:
                assert (await router.complete(prompt=PROMPT)).status == 200
            assert known(router) == {worker.url: 6 for worker in workers}
            assert (await router.post(RESET, b"")).json == {"success": False}
            assert known(router) == {
                worker.url: 0 if success else 6 for worker, success in zip(workers, successes, strict=True)
            }

    asyncio.run(scenario())
