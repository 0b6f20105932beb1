"""A whole router before workers that play vLLM byte by byte, as well or as badly as a test says; what clients get is judged."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from time import monotonic_ns
from typing import Any, NamedTuple

import aiohttp
from tests.gateway.fake_worker import SECONDS, Answer, FakeWorker, says, working
from tests.gateway.playing_vllm import MODEL, NO_PAGE, NUM_TOKENS, PATH, with_pages
from tests.gateway.routed import Routed, route_to


class Verdict(StrEnum):
    """How an answer ended for the client; WRONG breaks the promise."""

    COMPLETE = "complete"
    TOLD = "told in the stream"
    REFUSED = "refused with an error"
    WRONG = "wrong"


class Ending(NamedTuple):
    """What a client got."""

    status: int
    text: str
    is_cut: bool
    headers: dict[str, str]

    @property
    def tokens(self) -> list[tuple[str, int]]:
        """Whose tokens came, and their numbers."""
        texts = [str(event["choices"][0]["text"]) for event in self._events if "choices" in event]
        return [(name, int(number)) for name, number in (text.split() for text in texts)]

    @property
    def _events(self) -> list[dict[str, Any]]:
        """The events but for [DONE]; an empty one for what is no JSON."""
        stripped = [block.strip("\n") for block in self.text.split("\n\n")]
        blocks = [block.removeprefix("data: ") for block in stripped if block]
        return [_parsed(block) for block in blocks if block != "[DONE]"] if self.status == 200 else []

    def verdict(self, num_tokens: int = NUM_TOKENS) -> Verdict:
        """Judge it: complete means all tokens, in order, of one worker, and [DONE]; everything else must say that it is not."""
        if self.status != 200:
            is_told = self.is_cut or "message" in _parsed(self.text).get("error", "")
            return Verdict.REFUSED if self.status in {429, 500, 502, 503, 504} and is_told else Verdict.WRONG
        events, tokens = self._events, self.tokens
        is_of_one = len({name for name, _ in tokens}) <= 1
        in_order = [number for _, number in tokens] == list(range(len(tokens)))
        # Only the event before the error may have broken off.
        is_whole = all(events[:-2]) and (not events or bool(events[-1]))
        if not (is_of_one and in_order and is_whole):
            return Verdict.WRONG
        if "data: [DONE]\n\n" in self.text:
            # All is there, even where the connection broke before its last byte.
            return Verdict.COMPLETE if len(tokens) == num_tokens else Verdict.WRONG
        told = bool(events) and "error" in events[-1] and self.is_cut
        return Verdict.TOLD if told else Verdict.WRONG


def _parsed(block: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(block)
    except ValueError:
        return {}
    return parsed


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    request_id: str = "r",
    prompt: Any = "hello",
    *,
    on_first_byte: Callable[[], None] = lambda: None,
    **body: Any,
) -> Ending:
    """Ask for a stream and read it to its end, whatever that is."""
    sent = {"model": MODEL, "prompt": prompt, "stream": True} | body
    headers = {"X-Request-Id": request_id}
    async with session.post(url + PATH, json=sent, headers=headers) as response:
        data, is_cut = b"", False
        try:
            async for piece in response.content.iter_any():
                if not data:
                    on_first_byte()
                data += piece
        except aiohttp.ClientPayloadError:
            is_cut = True
        return Ending(response.status, data.decode(), is_cut, dict(response.headers))


def verdicts(endings: Sequence[Ending]) -> Counter[Verdict]:
    """Count how answers ended."""
    return Counter(ending.verdict() for ending in endings)


def use_loop_time(routed: Routed) -> None:
    """Let the router's fleet take its time from the event loop, which may be virtual."""
    loop, start_ns = asyncio.get_running_loop(), monotonic_ns()
    start_seconds = loop.time()
    routed.router.fleet._now_ns = lambda: start_ns + round((loop.time() - start_seconds) * 1e9)


async def turns(number: int = 8) -> None:
    """Let the event loop turn so often."""
    for _ in range(number):
        await asyncio.sleep(0)


def assert_at_rest(routed: Routed) -> None:
    """Assert that the router has no request in its books any more."""
    router = routed.router
    fleet = router.fleet
    assert [fleet.in_flight(member) for member in fleet] == [0] * len(fleet)
    assert fleet._watched == {}
    assert fleet.state._in_flight == {}
    for worker in fleet.slow_workers._workers.values():
        assert not worker.speed._waiting
        assert not worker.speed._streaming
    budget = router.forwarder.retry_budget
    assert (budget.active_requests, budget.active_retries) == (0, 0)
    assert router.admission.num_waiting == 0


@asynccontextmanager
async def promised(
    *answers: Callable[[FakeWorker], Answer],
    pages: Sequence[dict[str, Answer]] = (),
    num_ready: int | None = None,
    **choices: Any,
) -> AsyncIterator[tuple[Routed, list[FakeWorker]]]:
    """Run a router before a worker for each way to answer, and the pages beside; in the end it must be at rest."""
    async with working(*(says(NO_PAGE) for _ in answers)) as workers:
        for number, (worker, answer) in enumerate(zip(workers, answers, strict=True)):
            worker.answer = with_pages(answer(worker), pages[number] if pages else None)
        urls = tuple(worker.url for worker in workers)
        settings = {"worker": urls, "knowledge": "own"} | choices
        async with route_to((), **settings) as routed:
            use_loop_time(routed)
            wanted = len(urls) if num_ready is None else num_ready
            async with asyncio.timeout(SECONDS):
                while len(routed.router.fleet.view(None)[0]) < wanted:  # noqa: ASYNC110 - health tells nobody
                    await asyncio.sleep(0.05)
            yield routed, workers
            await asyncio.sleep(0)
            assert_at_rest(routed)
        # The router may have connected just before it ended; the workers are to see that, and its end.
        await turns()
