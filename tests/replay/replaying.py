"""A replay within a test: in the event loop of the test, against a server in the same loop."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
from tests.server.serving import Served as Server

from understudy.engine import TokenPrompt
from understudy.fleet import FleetConfig, RequestRecord, Simulation
from understudy.replay import (
    PromptTokens,
    Replay,
    ReplaySettings,
    ask_served,
    endpoint,
    open_session,
)
from understudy.routing import load_policy
from understudy.workload import Arrivals, WorkloadRequest


class Told(NamedTuple):
    """What a client and the simulator say of the same request."""

    request_id: str
    status: str
    arrival_ns: int
    prompt_tokens: int
    output_tokens: int
    first_token_ns: int | None
    finish_ns: int | None
    cached_tokens: int | None


async def replayed(
    url: str,
    arrivals: Arrivals,
    settings: ReplaySettings | None = None,
    *,
    api_key: str | None = None,
    model: str | None = None,
) -> Replay:
    """Replay to the end."""
    async with open_session() as session:
        target = endpoint(url, api_key)
        served = await ask_served(session, target, model)
        replay = Replay(settings or ReplaySettings(), target, served, arrivals, PromptTokens())
        await replay.run(session)
        return replay


def simulated(server: Server, arrivals: Arrivals) -> list[RequestRecord]:
    """Simulate one worker with the engine and the latency of a server."""
    setup = server.worker.settings.setup
    config = FleetConfig(
        engine=setup.config,
        latency=setup.latency,
        num_workers=1,
        policy="round-robin",
        choose=load_policy("round-robin"),
    )
    simulation = Simulation(config, arrivals)
    simulation.run()
    simulation.finish()
    return simulation.records


def told(records: Iterable[RequestRecord]) -> list[Told]:
    """Return what both sides can know."""
    return [Told(*(getattr(record, name) for name in Told._fields)) for record in records]


def seen(replay: Replay) -> list[Told]:
    """Return the same of what the clients saw."""
    return told(record.seen for record in replay.records)


def requests(
    count: int,
    *,
    gap_ns: int = 10_000_000,
    prompt_tokens: Sequence[int] = (8,),
    output_tokens: int = 2,
) -> list[WorkloadRequest]:
    """Return requests that arrive evenly, the lengths of their prompts in turn."""
    return [
        WorkloadRequest(
            request_id=f"r{number}",
            arrival_ns=number * gap_ns,
            prompt=TokenPrompt([number + 5] * prompt_tokens[number % len(prompt_tokens)]),
            output_tokens=output_tokens,
        )
        for number in range(count)
    ]


@asynccontextmanager
async def open_session_to(
    url: str, settings: ReplaySettings | None = None
) -> AsyncIterator[tuple[aiohttp.ClientSession, Callable[[Arrivals], Replay]]]:
    """Give a session and what makes replays of arrivals for it."""
    async with open_session() as session:
        target = endpoint(url, None)
        served = await ask_served(session, target, None)
        yield (
            session,
            lambda arrivals: Replay(settings or ReplaySettings(), target, served, arrivals, PromptTokens()),
        )
