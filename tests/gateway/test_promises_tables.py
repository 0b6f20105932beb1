"""Whatever clients send, no table of the router grows beyond its bound."""

from collections.abc import Sized

from tests.gateway.playing_vllm import streams
from tests.gateway.promised import Verdict, ask, promised, verdicts
from tests.support.virtual_time import run_in_virtual_time

NUM_REQUESTS = 1500
MAX_BLOCKS = 200
WORDS = "word " * 60


def sizes(router: object, seen: set[int], depth: int = 6) -> int:
    """Return how many things are in the tables of a router, and in those of its parts that this project made."""
    if depth == 0 or id(router) in seen:
        return 0
    seen.add(id(router))
    if isinstance(router, dict | list | set | tuple | frozenset):
        parts = list(router.values()) if isinstance(router, dict) else list(router)
        return len(router) + sum(sizes(part, seen, depth - 1) for part in parts[:100])
    if not type(router).__module__.startswith("understudy"):
        return len(router) if isinstance(router, Sized) and not isinstance(router, str | bytes) else 0
    slots = [name for kind in type(router).__mro__ for name in getattr(kind, "__slots__", ())]
    values = [getattr(router, name, None) for name in slots] + list(getattr(router, "__dict__", {}).values())
    return sum(sizes(value, seen, depth - 1) for value in values)


def test_no_table_grows_with_what_clients_make_up() -> None:
    """Prompts, models, sessions, request ids, methods and paths of their own: after the first few hundred nothing grows."""

    async def scenario() -> tuple[int, int, int]:
        async with promised(streams(), streams(), max_blocks_per_worker=MAX_BLOCKS, policy="prefix") as (
            router,
            _,
        ):

            async def some(numbers: range) -> None:
                endings = [
                    await ask(
                        router.session,
                        router.url,
                        f"r{number}",
                        f"{number} {WORDS}",
                        model=f"m{number}",
                        user=f"u{number}",
                    )
                    for number in numbers
                ]
                assert verdicts(endings) == {Verdict.COMPLETE: len(numbers)}
                for number in numbers:
                    headers = {"X-Session-ID": f"s{number}", "Authorization": f"Bearer k{number}"}
                    async with router.session.request(
                        f"M{number}", f"{router.url}/p{number}", headers=headers
                    ) as response:
                        await response.read()

            fleet = router.router.fleet
            await some(range(NUM_REQUESTS // 3))
            before = sizes(router.router, set())
            await some(range(NUM_REQUESTS // 3, NUM_REQUESTS))
            held = max(fleet.state.index.blocks_held(member.slot) for member in fleet)
            page = router.router.metrics.page()
            assert page.count(b"understudy_router_requests_total{") <= 50
            return before, sizes(router.router, set()), held

    before, after, held = run_in_virtual_time(scenario())
    print(before, after)
    assert 0 < held <= MAX_BLOCKS
