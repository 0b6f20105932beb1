"""`understudy route` as a process of its own, before workers in this one."""

import asyncio
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from tests.cli.processes import TIMEOUT_SECONDS
from tests.e2e.served import Server, served
from tests.server.serving import serving

_ADDRESS = re.compile(r"Routing on https?://127\.0\.0\.1:(\d+) ")
ROUTE = ("-m", "understudy", "route")


@contextmanager
def workers(count: int, *flags: str) -> Iterator[Sequence[str]]:
    """Serve so many workers from another thread, and yield where they are reached."""
    started, done = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(serving(*flags, may_fail=True)) for _ in range(count)]
            urls.extend(server.url for server in servers)
            started.set()
            while not done.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(TIMEOUT_SECONDS)
    try:
        yield urls
    finally:
        done.set()
        thread.join()


@contextmanager
def routing(urls: Sequence[str], *flags: str, **variables: str) -> Iterator[Server]:
    """Start a router before workers, and wait until it answers for one of them."""
    given = [word for url in urls for word in ("--worker", url)]
    with served(*given, *flags, command=ROUTE, variables=variables) as router:
        match = _ADDRESS.search(router.wait_for("Routing on "))
        assert match is not None
        router.port = int(match[1])
        yield router


def until_ready(router: Server) -> None:
    """Wait until some worker may get requests."""
    for _ in range(TIMEOUT_SECONDS * 20):
        if router.request("/health").status == 200:
            return
        threading.Event().wait(0.05)
    raise AssertionError(router.text)
