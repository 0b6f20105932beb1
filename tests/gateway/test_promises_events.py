"""News of caches that is lost, late, out of order or in other words: no request fails for it, and what is known is right again soon."""

import asyncio
import logging
from contextlib import AsyncExitStack
from time import monotonic

import pytest
from tests.gateway.fake_worker import until
from tests.gateway.routed import FLAGS, Routed, events_flag, route_to, routed
from tests.server.serving import serving

from understudy.routing import Knowledge
from understudy.server.faults import FaultPlan
from understudy.server.faults.plan import Events

ENGINE = ("--num-gpu-blocks-override", "300", "--max-model-len", "2048")
WORDS = "word " * 100


def caches_agree(router: Routed) -> bool:
    """Return whether the router knows as many blocks of each worker as it holds."""
    fleet = router.router.fleet
    for worker in router.workers:
        (engine,) = worker.worker.frontend.loop.engines
        held = len(set(engine.scheduler.kv_cache.pool.cached_hashes()))
        if fleet.state.index.blocks_held(fleet[worker.url].slot) != held:
            return False
    return True


@pytest.mark.parametrize(
    "fault",
    [
        Events(lose=0.5),
        Events(reorder=0.5, duplicate=0.3),
        Events(delay=0.5, delay_seconds=30.0),
        Events(lose=0.2, delay=0.3, delay_seconds=0.2, reorder=0.2, duplicate=0.2),
        Events(lose=1.0),
    ],
    ids=["lost", "out of order", "30 s late", "all of it", "none comes"],
)
def test_bad_news_costs_no_request(fault: Events) -> None:
    """While events are bad all requests are answered, and once they are good again the index is what workers hold."""

    async def scenario() -> None:
        async with routed(2, *ENGINE) as router:
            for number, worker in enumerate(router.workers):
                worker.worker.faults.plan = FaultPlan(seed=number, faults=(fault,))
            for start in range(0, 60, 10):
                asking = (
                    router.complete(prompt=f"{number % 17} {WORDS}", max_tokens=4)
                    for number in range(start, start + 10)
                )
                assert {reply.status for reply in await asyncio.gather(*asking)} == {200}
            for worker in router.workers:
                worker.worker.faults.plan = FaultPlan()
            started = monotonic()
            for worker in router.workers:
                assert (await worker.complete(prompt=f"news {WORDS}", max_tokens=2)).status == 200
            await until(lambda: caches_agree(router))
            print(f"{fault}: right after {monotonic() - started:.3f} s")

    asyncio.run(scenario())


Case = tuple[tuple[str, ...], dict[str, str], str]
BLOCK_SIZE: Case = (("--block-size", "32"), {}, "--block-size 32")
ALGORITHM: Case = (("--prefix-caching-hash-algo", "sha256_cbor"), {}, "sha256_cbor")
SEED: Case = ((), {"hash_seed": "7"}, "seed")


@pytest.mark.parametrize(
    ("flags", "choices", "words", "has_events"),
    [(*case, True) for case in (BLOCK_SIZE, ALGORITHM, SEED)]
    + [(*case, False) for case in (BLOCK_SIZE, ALGORITHM)],
    ids=["events: size", "events: algorithm", "events: seed", "lists: size", "lists: algorithm"],
)
def test_who_hashes_otherwise_is_named_and_routed_by_the_own_record(
    flags: tuple[str, ...],
    choices: dict[str, str],
    words: str,
    has_events: bool,  # noqa: FBT001 - a parameter of the test
    caplog: pytest.LogCaptureFixture,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The note and the log say what to change, and equal prompts stay together all the same."""
    folder = str(tmp_path_factory.mktemp("events"))

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            workers = []
            for number in range(2):
                events = events_flag(folder, number) if has_events else ("--enable-kv-blocks-endpoint",)
                served = serving(*FLAGS, *ENGINE, *flags, *events, may_fail=True)
                workers.append(await stack.enter_async_context(served))
            for number, worker in enumerate(workers):
                assert (await worker.complete(prompt=f"{number} {WORDS}", max_tokens=2)).status == 200
            choices_of_time = {"heartbeat_seconds": 0.2, "synchronisation_seconds": 0.2}
            router = await stack.enter_async_context(route_to(workers, **choices, **choices_of_time))
            await router.ready()
            documents = router.router.worker_documents
            await until(lambda: all(words in " ".join(document["notes"]) for document in documents()))
            for number in range(5):
                replies = [await router.complete(prompt=f"{name} {WORDS}", max_tokens=2) for name in "ab"]
                assert {reply.status for reply in replies} == {200}
                homes = [router.worker_of(reply) for reply in replies]
                if number == 0:
                    first_homes = homes
                assert homes == first_homes
            fleet = router.router.fleet
            assert {fleet.state.knowledge_of(member.slot) for member in fleet} == {Knowledge.OWN}
            for document in router.router.worker_documents():
                (note,) = [note for note in document["notes"] if words in note]
                assert note.startswith(f"The worker {document['url']} ")
                assert note in [record.getMessage() for record in caplog.records]

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
