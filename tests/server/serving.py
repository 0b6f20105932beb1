"""A whole server in a test: application, worker and real sockets within one event loop, and a client for it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from understudy.server.application import application
from understudy.server.arguments import parse_serve_arguments
from understudy.server.engine_clock import EngineClock, ScaledClock
from understudy.server.faults import FaultPlan
from understudy.server.settings import settings_of
from understudy.server.worker import Worker
from understudy.web import RunningServer, start_server

MODEL = "llama-3.1-8b"
Json = dict[str, Any]
Bodies = Sequence[Mapping[str, Any]]


@dataclass
class Reply:
    """One answer of the server; `events` are those of a stream, `comments` its comments, [DONE] is left out of both."""

    status: int
    headers: Mapping[str, str]
    text: str
    events: list[Json] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    num_done: int = 0
    ends_with_done: bool = False

    @property
    def json(self) -> Json:
        """The body of an answer that is no stream."""
        body: Json = json.loads(self.text)
        return body

    @property
    def times(self) -> Mapping[str, str]:
        """The simulated times, by the names of their headers."""
        told = dict(comment.split(": ", 1) for comment in self.comments if comment.startswith("X-"))
        return self.headers | told if isinstance(self.headers, dict) else told


class Served:
    """A server in this process, and a client of it."""

    def __init__(self, worker: Worker, running: RunningServer, session: aiohttp.ClientSession) -> None:
        self.worker = worker
        self.running = running
        self.session = session
        self.url = f"http://127.0.0.1:{running.port}"

    async def post(
        self, path: str, body: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request and read all of the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | dict(headers or {})
        async with self.session.post(self.url + path, data=data, headers=given) as response:
            return reply_of(response.status, dict(response.headers), await response.text())

    async def complete(self, headers: Mapping[str, str] | None = None, **body: Any) -> Reply:
        """Send a completion."""
        return await self.post("/v1/completions", {"model": MODEL} | body, headers)

    async def chat(self, headers: Mapping[str, str] | None = None, **body: Any) -> Reply:
        """Send a chat."""
        return await self.post("/v1/chat/completions", {"model": MODEL} | body, headers)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Read a page."""
        async with self.session.get(self.url + path, headers=headers) as response:
            return Reply(response.status, dict(response.headers), await response.text())

    async def metrics(self) -> "Metrics":
        """Read the page of metrics."""
        return Metrics((await self.get("/metrics")).text)

    async def open(self, path: str, body: Mapping[str, Any]) -> "RawStream":
        """Send a request over a connection of its own, to be read or left by hand."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
        writer.write(raw_request(path, {"model": MODEL} | dict(body)))
        return RawStream(reader, writer)

    def assert_nothing_is_left(self) -> None:
        """No sample, no block, no load: as at the start."""
        frontend = self.worker.frontend
        assert frontend.num_unfinished == 0
        assert frontend._by_prompt_id == {}
        assert frontend._num_prefill_tokens == 0
        assert frontend._ranks.in_flight == [0] * frontend.num_ranks
        for engine in frontend.loop.engines:
            engine.scheduler.check_integrity()
            assert not engine.scheduler.has_requests
            assert engine.gauges == (0, 0, 0.0)
            assert engine.next_ns is None


class RawStream:
    """One request on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def events(self, count: int) -> bytes:
        """Read until so many events, comments included, have come, or the end."""
        data = b""
        while data.count(b"\n\n") < count and (piece := await self.reader.read(65536)):
            data += piece
        return data

    async def rest(self) -> bytes:
        """Read to the end; nothing where the connection breaks."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            await self.close()

    def leave(self) -> None:
        """Break off."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close in an orderly way."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


class Metrics:
    """A page of metrics."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self._samples = [
            (sample.name, sample.labels, sample.value) for family in families for sample in family.samples
        ]
        self._families = {
            family.name: sum(
                sample.value for sample in family.samples if not sample.name.endswith("_created")
            )
            for family in families
        }

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name whose labels have these values."""
        found = [
            value
            for sample, others, value in self._samples
            if sample == name and labels.items() <= others.items()
        ]
        assert found, f"the page has {name}"
        return sum(found)

    def latest(self, name: str) -> Mapping[str, str]:
        """Return the labels of the sample of a name that has the greatest value."""
        found = [(value, labels) for sample, labels, value in self._samples if sample == name]
        assert found, f"the page has {name}"
        return max(found, key=lambda each: each[0])[1]

    @property
    def families(self) -> Mapping[str, float]:
        """The sums of all samples by their families' names."""
        return self._families


def raw_request(path: str, body: Mapping[str, Any]) -> bytes:
    """Return the bytes of a request that ends its connection."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def reply_of(status: int, headers: Mapping[str, str], text: str) -> Reply:
    """Return an answer, its events parsed if it is a stream."""
    reply = Reply(status, headers, text)
    if not headers.get("Content-Type", "").startswith("text/event-stream"):
        return reply
    reply.ends_with_done = text.endswith("data: [DONE]\n\n")
    for block in text.split("\n\n"):
        for line in block.split("\n"):
            if line == "data: [DONE]":
                reply.num_done += 1
            elif line.startswith("data: "):
                reply.events.append(json.loads(line.removeprefix("data: ")))
            elif line:
                reply.comments.append(line.removeprefix(": "))
    return reply


class _Complaints(logging.Handler):
    """Keeps what the log has of warnings and errors, but for faults that were wanted, and for a machine that is too busy."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.getMessage().startswith(("Injected fault", "Falling behind")):
            self.messages.append(self.format(record))


@asynccontextmanager
async def serving(
    *flags: str, clock: EngineClock | None = None, faults: FaultPlan | None = None, may_fail: bool = False
) -> AsyncIterator[Served]:
    """Serve as `understudy serve` would with these flags, by the loop's time unless another clock is given.

    In the end the log must be free of warnings and errors, unless the server `may_fail`.
    """
    arguments = parse_serve_arguments([MODEL, *flags], {})
    worker = Worker(
        settings_of(arguments, {}),
        clock or ScaledClock(asyncio.get_running_loop(), arguments.values["time_scale"]),
    )
    if faults is not None:
        worker.faults.plan = faults
    running = await start_server(application(worker), host="127.0.0.1")
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        yield Served(worker, running, session)
    finally:
        await session.close()
        await running.drain(1.0)
        await worker.close()
        logging.getLogger().removeHandler(complaints)
    assert may_fail or not complaints.messages, complaints.messages


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds; the test's time limit is the bound."""
    while not condition():  # noqa: ASYNC110 - of most conditions no event tells
        await asyncio.sleep(0.001)
