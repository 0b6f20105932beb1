"""The router's hot path in a process of its own: workers in turn, no policy, no hashes.

    python -m benchmarks.routing_gateway --port 8460 --worker http://127.0.0.1:8461

What it takes is what forwarding takes; policy and hashing come on top.
"""

import argparse
import asyncio
import itertools
import signal
from collections.abc import Collection

from aiohttp import web

from understudy.gateway.choice import Choice
from understudy.gateway.forward import Forwarder, ForwardSettings
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream import Upstream, WorkerAddress
from understudy.routing import Decision, RoutingRequest, Watched
from understudy.routing.retry_budget import RetryBudget
from understudy.server.calm_heap import calm_heap
from understudy.web import DEFAULT_LIMITS, read_body, start_server


class Rotation:
    """A fleet without knowledge: each request goes to the next worker."""

    def __init__(self, urls: list[str]) -> None:
        upstreams = (Upstream(WorkerAddress.parse(url)) for url in urls)
        members = [Member(upstream.address.url, slot, upstream) for slot, upstream in enumerate(upstreams)]
        self._turns = itertools.cycle(members)

    def choose(self, inbound: Inbound, tried: Collection[Member]) -> Choice | None:
        """Return the next worker."""
        member = next(self._turns)
        return None if member in tried else Choice(member, Decision(member.slot, 0, "turn"), inbound.routing)

    def dispatched(self, choice: Choice, *, wants_stream: bool) -> Watched | None:  # noqa: ARG002 - Fleet's signature
        """Count nothing."""
        return None

    def first_token(self, choice: Choice) -> None:
        """Count nothing."""

    def finished(self, choice: Choice, outcome: Outcome) -> None:
        """Count nothing."""


class Nobody:
    """Observes nothing."""

    def answered(self, exchange: Exchange) -> None:
        """Forget it."""

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Forget it."""


_NO_PROMPT = RoutingRequest(request_id="", num_prompt_tokens=0, block_hashes=(), block_size=16)


async def read(request: web.Request) -> Inbound:
    """Read a request without looking into it."""
    body = await read_body(request, DEFAULT_LIMITS)
    return Inbound(
        method=request.method,
        target=request.raw_path,
        headers=request.raw_headers,
        body=body,
        model=None,
        routing=_NO_PROMPT,
        has_prompt=False,
    )


async def serve(port: int, urls: list[str]) -> None:
    """Forward until SIGTERM."""
    forwarder = Forwarder(Rotation(urls), read, Nobody(), RetryBudget(), ForwardSettings())
    running = await start_server(forwarder.handle, host="127.0.0.1", port=port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with calm_heap():
        await stop.wait()
    await running.drain(0)


def main() -> None:
    """Forward as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--worker", action="append", required=True, help="a worker's URL; once for each")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    options = parser.parse_args()
    loop_factory = None
    if options.uvloop:
        import uvloop  # noqa: PLC0415 - an extra

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(options.port, options.worker))


if __name__ == "__main__":
    main()
