"""Sends a workload to an endpoint when its requests are due, and keeps what the clients see."""

import asyncio
from array import array
from collections.abc import Callable

import aiohttp

from understudy.replay.answer import AnswerReader
from understudy.replay.client import Client
from understudy.replay.endpoint import Endpoint, Served
from understudy.replay.exchange import Exchange
from understudy.replay.order import Order
from understudy.replay.orders import Orders
from understudy.replay.prompt_tokens import PromptTokens
from understudy.replay.punctuality import Punctuality
from understudy.replay.record import REFUSED, WHOLE, ReplayRecord
from understudy.replay.settings import ReplaySettings
from understudy.replay.trace_clock import TraceClock
from understudy.workload import Arrivals

_BAD_REQUEST = "http-400"
_SPARE_SECONDS = 0.02
"""With more time than this until the next request, others are prepared."""


class Replay:
    """One replay; `run` may be called once.

    `records` are in order of arrival once `run` has ended, also where it was interrupted. `inter_token_ns` has the gaps
    between all tokens, `end_ns` is the latest time of the trace's clock at which anything was seen. `num_shortened` counts
    the answers that the context had no room for, `num_of_other_length` whole ones of another length than asked for, and
    `longest_refused_tokens` is the most that a refused request had in its prompt and asked for together.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        endpoint: Endpoint,
        served: Served,
        arrivals: Arrivals,
        tokens: PromptTokens,
    ) -> None:
        self.records: list[ReplayRecord] = []
        self.inter_token_ns = array("q")
        self.start_ns = 0
        self.end_ns = 0
        self.num_shortened = 0
        self.num_of_other_length = 0
        self.longest_refused_tokens = 0
        self.interrupted = False
        self.punctuality = Punctuality()
        self.settings = settings
        self.served = served
        self._endpoint = endpoint
        self._orders = Orders(arrivals, tokens, served)
        self._connections = asyncio.Semaphore(settings.max_connections)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._defect: BaseException | None = None
        self._an_end = asyncio.Event()
        self._main: asyncio.Task[object] | None = None

    def interrupt(self) -> None:
        """End the run now: requests under way count as unfinished, those that are not due yet are not sent."""
        if self._main is not None and not self.interrupted:
            self.interrupted = True
            self._main.cancel()

    async def run(
        self, session: aiohttp.ClientSession, on_arrival: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Run to the end of the workload, or until interrupted. `on_arrival` is told how many requests were sent.

        Raises what the workload raises, and InputError for an id that arrives again before its answer where arrivals
        wait for answers.
        """
        self._main = asyncio.current_task()
        client = Client(session, self._endpoint, self.settings.timeout_seconds)
        try:
            await self._send_all(client, on_arrival)
            while self._in_flight:
                await self._next_end()
            if self._defect is not None:
                raise self._defect
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
            assert self._main is not None
            self._main.uncancel()
        finally:
            self._main = None
            await self._leave()
            self.records.sort(key=lambda record: record.seen.serial)

    async def _send_all(self, client: Client, on_arrival: Callable[[int], None]) -> None:
        clock: TraceClock | None = None
        count = 0
        while True:
            found = self._orders.next()
            if found is None:
                if not (self._orders.wait_for_answers and self._in_flight):
                    return
                await self._next_end()
                continue
            due_ns, order = found
            if clock is None:
                loop = asyncio.get_running_loop()
                clock = TraceClock(loop, start_ns=due_ns, speed=self.settings.speed)
                self.start_ns = self.end_ns = due_ns
            while clock.seconds_until(due_ns) > _SPARE_SECONDS and self._orders.prepare():  # noqa: ASYNC110 - it lets answers in
                await asyncio.sleep(0)
            # Also where it is late, so that those before it come to be sent.
            await asyncio.sleep(max(clock.seconds_until(due_ns), 0.0))
            await self._connection(clock, due_ns)
            self._start(client, clock, order, due_ns)
            count += 1
            on_arrival(count)

    async def _connection(self, clock: TraceClock, due_ns: int) -> None:
        """Wait for one of the connections to be free."""
        if self._connections.locked():
            await self._connections.acquire()
            self.punctuality.held_back_until(clock.now_ns())
        else:
            await self._connections.acquire()
        self.punctuality.sent(due_ns, clock.now_ns(), clock.wall_seconds)

    def _start(self, client: Client, clock: TraceClock, order: Order, due_ns: int) -> None:
        self.num_shortened += order.is_shortened
        exchange = Exchange(order=order, due_ns=due_ns, answer=AnswerReader(order.output_tokens))
        task = asyncio.create_task(self._exchange(client, clock, exchange))
        self._in_flight.add(task)
        task.add_done_callback(self._ended)

    async def _exchange(self, client: Client, clock: TraceClock, exchange: Exchange) -> None:
        try:
            await client.ask(exchange, clock)
        finally:
            self.end_ns = max(self.end_ns, clock.now_ns())
            self._keep(exchange)
            self._connections.release()
        self._orders.ended(exchange.order, self.end_ns)

    def _keep(self, exchange: Exchange) -> None:
        """Make a record of an exchange that has ended, however it did."""
        context, prompt = self.served.max_model_len, exchange.order.request.prompt
        if exchange.status == _BAD_REQUEST and context is not None and prompt.num_tokens >= context:
            exchange.status = REFUSED
            request_tokens = prompt.num_tokens + exchange.order.request.output_tokens
            self.longest_refused_tokens = max(self.longest_refused_tokens, request_tokens)
        is_whole = exchange.status in WHOLE
        self.num_of_other_length += is_whole and exchange.answer.output_tokens != exchange.order.output_tokens
        self.inter_token_ns.extend(exchange.answer.inter_token_ns)
        self.records.append(exchange.record())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._an_end.set()
        if not task.cancelled():
            self._defect = self._defect or task.exception()

    async def _next_end(self) -> None:
        """Wait until a request has ended."""
        self._an_end.clear()
        await self._an_end.wait()

    async def _leave(self) -> None:
        """Break off what is under way."""
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
