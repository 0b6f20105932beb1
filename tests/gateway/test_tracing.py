"""Spans of requests: whose children they are, what they say, and that no request hears of a collector's troubles."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.gateway.behind import answers, before, lists, posted
from tests.gateway.fake_worker import STREAM_HEAD, chunk, says

from understudy.errors import UsageError
from understudy.gateway import tracing
from understudy.gateway.tracing import Tracing, traces_url
from understudy.web import start_server

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
STATE = "vendor=1,other=2"


@dataclass
class Collector:
    """A collector on loopback, and what it got; it answers with `status`."""

    url: str = ""
    status: int = 200
    paths: list[str] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Take a parcel of spans."""
        parcel = ExportTraceServiceRequest()
        parcel.ParseFromString(await request.read())
        self.paths.append(request.path)
        for resource in parcel.resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.services.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return web.Response(status=self.status)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run a collector."""
    collector = Collector()
    running = await start_server(collector.take)
    collector.url = f"http://127.0.0.1:{running.port}"
    try:
        yield collector
    finally:
        await running.drain(0)


def told(span: Span) -> dict[str, Any]:
    """Return a span's attributes."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in span.attributes
    }


def test_without_an_endpoint_traces_pass_untouched() -> None:
    """The client's parent is the worker's."""

    async def scenario() -> None:
        async with before({}) as (router, (worker,)):
            await router.complete({"traceparent": PARENT, "tracestate": STATE}, prompt="x")
            await router.complete(prompt="x")
            first, second = posted(worker)
            assert (first.values("traceparent"), first.values("tracestate")) == ([PARENT], [STATE])
            assert second.values("traceparent") == []

    asyncio.run(scenario())


def test_a_request_is_a_span_between_client_and_worker() -> None:
    """Child of the client's span and parent of the worker's; it says what the access log says."""

    async def scenario() -> None:
        async with collecting() as collector:
            async with before({}, otlp_endpoint=collector.url) as (router, (worker,)):
                await router.complete(
                    {"traceparent": PARENT, "tracestate": STATE, "X-Request-Id": "mine"}, prompt="x"
                )
                (asked,) = posted(worker)
                url = worker.url
            (span,) = collector.spans
            assert collector.paths == ["/v1/traces"]
            assert collector.services == {"understudy-router"}
            assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
            assert asked.values("traceparent") == [f"00-{TRACE}-{span.span_id.hex()}-01"]
            assert asked.values("tracestate") == [STATE]
            assert (span.name, span.kind) == ("POST /v1/completions", Span.SPAN_KIND_SERVER)
            assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
            facts = told(span)
            assert facts["http.response.status_code"] == 200
            assert facts["url.path"] == "/v1/completions"
            assert facts["understudy.worker"] == url
            assert facts["understudy.request_id"] == "mine"
            assert facts["understudy.outcome"] == "complete"
            assert span.status.code == Status.STATUS_CODE_UNSET

    asyncio.run(scenario())


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_without_a_parent_a_trace_begins(traceparent: str | None) -> None:
    """Where the client sends none, or none that can be read."""

    async def scenario() -> None:
        async with collecting() as collector:
            async with before({}, otlp_endpoint=collector.url) as (router, (worker,)):
                await router.complete(
                    None if traceparent is None else {"traceparent": traceparent}, prompt="x"
                )
                (asked,) = posted(worker)
            (span,) = collector.spans
            assert span.parent_span_id == b""
            (given,) = asked.values("traceparent")
            assert given.startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-0")

    asyncio.run(scenario())


def test_a_client_that_is_not_sampled_is_not_told_of() -> None:
    """Its worker hears that, too."""

    async def scenario() -> None:
        async with collecting() as collector:
            async with before({}, otlp_endpoint=collector.url) as (router, (worker,)):
                await router.complete({"traceparent": f"00-{TRACE}-{SPAN}-00"}, prompt="x")
                (asked,) = posted(worker)
                (given,) = asked.values("traceparent")
                assert given.startswith(f"00-{TRACE}-")
                assert given.endswith("-00")
            assert collector.spans == []

    asyncio.run(scenario())


def test_what_failed_is_an_error() -> None:
    """A broken stream, and what no worker answers; orders to all workers and merged lists are spans as well."""

    async def scenario() -> None:
        async with collecting() as collector:
            pages = lists("a"), lists("b")
            async with before(*pages, otlp_endpoint=collector.url) as (router, workers):
                await router.post("/sleep", b"")
                await router.get("/v1/models")
                for worker in workers:
                    worker.answer = says(STREAM_HEAD, chunk(b"data: 1\n\n"), closes=True)
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    await router.complete(prompt="x")
                for worker in workers:
                    worker.answer = answers({})
            codes = {span.name: span.status.code for span in collector.spans}
            assert codes == {
                "POST /sleep": Status.STATUS_CODE_UNSET,
                "GET /v1/models": Status.STATUS_CODE_UNSET,
                "POST /v1/completions": Status.STATUS_CODE_ERROR,
            }

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [500, 404, None])
def test_no_request_hears_of_a_collectors_troubles(
    status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails, knows no such path, or is not there; nor does the end wait for it for long."""
    monkeypatch.setattr(tracing, "EXPORT_SECONDS", 0.5)

    async def scenario() -> None:
        async with collecting() as collector:
            collector.status = status or 200
            endpoint = collector.url if status else "http://127.0.0.1:1"
            async with before({}, otlp_endpoint=endpoint) as (router, _):
                for _ in range(20):
                    assert (await router.complete(prompt="x")).status == 200

    asyncio.run(scenario())


def test_spans_that_never_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, beyond a bound."""
    monkeypatch.setattr(tracing, "MAX_OPEN", 3)

    async def scenario() -> None:
        spans = Tracing("http://127.0.0.1:1")
        for _ in range(10):
            spans.begin("POST /", [], 1)
        assert len(spans._open) == 3
        await spans.close()

    asyncio.run(scenario())


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(
        UsageError, match=r"^--otlp-endpoint needs OpenTelemetry.*pip install 'understudy\[otel\]'$"
    ):
        Tracing("http://127.0.0.1:4318")


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp/traces?k=v", "https://h/otlp/traces?k=v"),
    ],
)
def test_where_spans_go(endpoint: str, url: str) -> None:
    """To a collector's own path, unless another one is given."""
    assert traces_url(endpoint) == url
