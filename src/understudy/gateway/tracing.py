"""A span for each request, sent by OpenTelemetry's protocol over HTTP. Its parent is the client's, and it is the parent of the worker's.

The packages of the extra `otel` do the sending, in a thread of their own, and may be set up further by OpenTelemetry's variables
in the environment, such as OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER. What they cannot send is lost; no request hears of it.
"""

import asyncio
import threading
from collections.abc import Sequence
from importlib import import_module
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from understudy.errors import UsageError
from understudy.gateway.access_log import facts_of
from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SERVICE = "understudy-router"
TRACES_PATH = "/v1/traces"
EXPORT_SECONDS = 5.0
"""How long one parcel of spans may take to be sent, and how long the router waits for the last one when it ends."""

MAX_OPEN = 65_536
"""Spans of requests that have not ended; beyond, the oldest are given up."""

_TRACEPARENT = b"traceparent"
_TRACESTATE = b"tracestate"


class Tracing:
    """Begins spans for who reads requests, and ends them as an observer. Raises UsageError where a package is missing."""

    def __init__(self, endpoint: str) -> None:
        try:
            self._trace = import_module("opentelemetry.trace")
            propagation = import_module("opentelemetry.trace.propagation.tracecontext")
            sdk = import_module("opentelemetry.sdk.trace")
            sending = import_module("opentelemetry.sdk.trace.export")
            resources = import_module("opentelemetry.sdk.resources")
            otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        except ImportError as error:
            raise UsageError(
                f"--otlp-endpoint needs OpenTelemetry, which is not there ({error.name}): pip install 'understudy[otel]'"
            ) from error
        self._propagator = propagation.TraceContextTextMapPropagator()
        exporter = otlp.OTLPSpanExporter(endpoint=traces_url(endpoint), timeout=EXPORT_SECONDS)
        resource = resources.Resource({"service.name": SERVICE}).merge(
            resources.OTELResourceDetector().detect()
        )
        self._provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(sending.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("understudy.gateway")
        self._open: dict[str, Span] = {}

    def begin(
        self, name: str, headers: Sequence[tuple[bytes, bytes]], began_ns: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """Begin a span for a request with these headers; return those for the worker, with the span as parent.

        `began_ns` is of `time.time_ns`.
        """
        came: dict[str, str] = {}
        others: list[tuple[bytes, bytes]] = []
        for field in headers:
            lower = field[0].lower()
            if lower in {_TRACEPARENT, _TRACESTATE}:
                came[lower.decode()] = field[1].decode("latin-1")
            if lower != _TRACEPARENT:
                others.append(field)
        parent = self._propagator.extract(came)
        span = self._tracer.start_span(
            name, context=parent, kind=self._trace.SpanKind.SERVER, start_time=began_ns
        )
        given: dict[str, str] = {}
        self._propagator.inject(given, context=self._trace.set_span_in_context(span))
        if (traceparent := given.get("traceparent")) is None:
            return headers
        if span.is_recording():
            if len(self._open) >= MAX_OPEN:
                del self._open[next(iter(self._open))]
            self._open[traceparent] = span
        return [*others, (_TRACEPARENT, traceparent.encode())]

    def answered(self, exchange: Exchange) -> None:
        """End the span of a request."""
        span = self._open.pop(exchange.traceparent or "", None)
        if span is None:
            return
        # Of two clocks: the monotonic one says how long ago it was.
        ended_ns = time_ns() - (monotonic_ns() - exchange.ended_ns)
        span.set_attributes(
            {name: value for name, value in _attributes(exchange).items() if value is not None}
        )
        if exchange.status >= 500 or exchange.outcome is Outcome.BROKEN:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(ended_ns)

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Note nothing: the attributes at the end count the attempts."""

    async def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            loop.call_soon_threadsafe(done.set)

        # Not in the loop's pool, for whose threads the process waits when it ends.
        threading.Thread(target=shut_down, daemon=True).start()
        await asyncio.wait([asyncio.ensure_future(done.wait())], timeout=EXPORT_SECONDS)


def traces_url(endpoint: str) -> str:
    """Return where spans go: a collector's own path, unless the endpoint has one."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path not in {"", "/"} else parts._replace(path=TRACES_PATH).geturl()


def _attributes(exchange: Exchange) -> dict[str, Any]:
    facts = dict(facts_of(exchange))
    standard = {
        "http.request.method": facts.pop("method"),
        "url.path": facts.pop("path"),
        "http.response.status_code": facts.pop("status"),
        "gen_ai.request.model": facts.pop("model"),
    }
    return standard | {f"understudy.{name}": value for name, value in facts.items()}
