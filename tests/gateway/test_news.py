"""Promises about which news of a worker count: none of them where its tokens are not the router's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.gateway.fake_worker import until
from tests.gateway.routed import FLAGS, Routed, events_flag, route_to
from tests.server.serving import serving

from understudy.gateway.worker_http import NoAnswerError
from understudy.routing import Knowledge

DIFFERENT = "has another tokenizer"
WORDS = "word " * 60
ENGINE = ("--num-gpu-blocks-override", "300", "--max-model-len", "2048")


class Comparison:
    """What comparing tokens says, in the place of the real one."""

    def __init__(self) -> None:
        self.answer: str | NoAnswerError | None = DIFFERENT
        self.num_asked = 0

    async def compare(self, *_: object) -> str | None:
        """Answer as a test says."""
        self.num_asked += 1
        if isinstance(self.answer, NoAnswerError):
            raise self.answer
        return self.answer


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Replace the comparison of tokens."""
    comparison = Comparison()
    monkeypatch.setattr("understudy.gateway.news.tokenizer_agrees", comparison.compare)
    return comparison


@asynccontextmanager
async def one_routed(*flags: str) -> AsyncIterator[Routed]:
    """Serve a worker and a router before it, which may complain."""
    async with (
        serving(*FLAGS, *flags, may_fail=True) as worker,
        route_to([worker], heartbeat_seconds=0.1, synchronisation_seconds=0.1) as router,
    ):
        await router.ready()
        yield router


def knowledge(router: Routed) -> Knowledge | None:
    """Return from where the router knows what its worker holds."""
    fleet = router.router.fleet
    return fleet.state.knowledge_of(fleet[router.workers[0].url].slot)


def blocks_known(router: Routed) -> int:
    """Return how many blocks the router takes its worker to hold."""
    (figures,) = router.router.fleet.figures()
    return figures.blocks_known


def blocks_held(router: Routed) -> int:
    """Return how many its worker holds."""
    (engine,) = router.workers[0].worker.frontend.loop.engines
    return len(set(engine.scheduler.kv_cache.pool.cached_hashes()))


def has_note(router: Routed) -> bool:
    """Return whether a user is told that tokens differ."""
    (document,) = router.router.worker_documents()
    return any(DIFFERENT in note for note in document["notes"])


async def fail_and_come_back(router: Routed, comparison: Comparison, answer: str | None) -> None:
    """Let a probe fail and the next ones pass."""
    comparison.answer = answer
    (news,) = router.router._news.values()
    news.probed(0, passed=False)
    before = comparison.num_asked
    await until(lambda: comparison.num_asked > before)


@pytest.mark.parametrize("has_events", [True, False], ids=["events", "lists"])
def test_other_tokens_leave_the_own_record_until_they_are_the_same(
    *, has_events: bool, comparison: Comparison, tmp_path: Path
) -> None:
    """What events or lists say is passed over meanwhile, and all of it is known afterwards."""

    async def main() -> None:
        best = Knowledge.EVENTS if has_events else Knowledge.HEARTBEAT
        flags = events_flag(str(tmp_path), 0) if has_events else ("--enable-kv-blocks-endpoint",)
        async with one_routed(*ENGINE, *flags) as router:
            await until(lambda: has_note(router))
            assert knowledge(router) is Knowledge.OWN
            # Straight to the worker: only its own news tell of it.
            assert (await router.workers[0].complete(prompt=WORDS, max_tokens=2)).status == 200
            await asyncio.sleep(0.3)
            assert knowledge(router) is Knowledge.OWN
            assert blocks_known(router) == 0 < blocks_held(router)
            await fail_and_come_back(router, comparison, None)
            await until(lambda: blocks_known(router) == blocks_held(router))
            assert knowledge(router) is best
            assert not has_note(router)

    asyncio.run(main())


def test_tokens_that_change_while_a_worker_is_away_are_noticed(
    comparison: Comparison, tmp_path: Path
) -> None:
    """Then what was known by events counts no more, and the own record begins."""

    async def main() -> None:
        comparison.answer = None
        async with one_routed(*ENGINE, *events_flag(str(tmp_path), 0)) as router:
            await router.workers[0].complete(prompt=WORDS, max_tokens=2)
            await until(lambda: blocks_known(router) == blocks_held(router) > 0)
            await fail_and_come_back(router, comparison, DIFFERENT)
            await until(lambda: knowledge(router) is Knowledge.OWN)
            assert blocks_known(router) == 0
            assert (await router.complete(prompt=WORDS, max_tokens=2)).status == 200
            assert blocks_known(router) > 0

    asyncio.run(main())


def test_who_did_not_answer_is_asked_again_and_who_did_is_not(comparison: Comparison) -> None:
    """With each probe that passes, until there is an answer."""

    async def main() -> None:
        comparison.answer = NoAnswerError("does not answer /tokenize")
        async with one_routed(*ENGINE) as router:
            await until(lambda: comparison.num_asked > 2)
            comparison.answer = DIFFERENT
            await until(lambda: has_note(router))
            asked = comparison.num_asked
            await asyncio.sleep(0.3)
            assert comparison.num_asked == asked

    asyncio.run(main())
