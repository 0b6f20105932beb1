"""What the router counts, under names of its own, in a registry of its own.

Label values come from a bounded set: the fleet's workers, the policy's reasons, a few outcomes and statuses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome

_NS_PER_SECOND = 1e9
MAX_LABEL_VALUES = 1000
"""Different values of one label; what comes beyond is counted as `other`."""

_LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OVERHEAD_BUCKETS = (25e-6, 50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.1, 1)
_TOKEN_BUCKETS = (0, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """What the router knows of one worker at this moment."""

    name: str
    health: str
    in_flight: int
    blocks_known: int
    running: int
    waiting: int
    kv_usage: float
    report_age_seconds: float


class RouterMetrics:
    """Counters and histograms of requests; an observer of the forwarder.

    `workers` is asked for each page about every worker, `num_waiting` for the length of the queue.
    """

    def __init__(
        self, workers: Callable[[], Iterable[WorkerFigures]], num_waiting: Callable[[], int]
    ) -> None:
        self.registry = CollectorRegistry()
        self._labels: dict[str, set[str]] = {}
        name = "understudy_router_"

        def counter(what: str, text: str, *labels: str) -> Counter:
            return Counter(name + what, text, labels, registry=self.registry)

        def histogram(what: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(name + what, text, labels, registry=self.registry, buckets=tuple(buckets))

        self._requests = counter(
            "requests", "Requests of clients, by what they were answered.", "method", "status"
        )
        self._decisions = counter(
            "decisions", "Choices of a worker, by the policy's reason.", "worker", "reason"
        )
        self._outcomes = counter("outcomes", "How requests to workers ended.", "worker", "outcome")
        self._retries = counter(
            "retries", "Requests tried again, by who failed first and how.", "worker", "outcome"
        )
        self._bytes = counter("answer_bytes", "Bytes of answers' bodies, by worker.", "worker")
        self._predicted = counter(
            "predicted_cached_tokens", "Prompt tokens expected in the chosen worker's cache."
        )
        self._actual = counter("actual_cached_tokens", "Prompt tokens that workers said were cached.")
        self._compared = counter("compared_requests", "Requests of which both figures are known.")
        self._error = histogram(
            "cached_tokens_error",
            "Difference of expected and actual cached tokens of a request.",
            _TOKEN_BUCKETS,
        )
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self._ttfb = histogram(
            "first_byte_seconds",
            "Time from a request to the first byte of its answer's body.",
            _LATENCY_BUCKETS,
        )
        self._duration = histogram(
            "request_seconds", "Time from a request to the end of its answer.", _LATENCY_BUCKETS
        )
        self._routing = histogram(
            "routing_seconds", "Time for tokens, hashes and the choice of a worker.", _OVERHEAD_BUCKETS
        )
        self._overhead = histogram(
            "dispatch_seconds",
            "Time from a request's arrival until it was on its way to a worker.",
            _OVERHEAD_BUCKETS,
        )
        waiting = Gauge(name + "queued_requests", "Requests that wait for a worker.", registry=self.registry)
        waiting.set_function(num_waiting)
        self.registry.register(_Workers(workers))

    def answered(self, exchange: Exchange) -> None:
        """Count a request at its end."""
        self._requests.labels(self._bounded("method", exchange.method), str(exchange.status)).inc()
        self._duration.observe((exchange.ended_ns - exchange.received_ns) / _NS_PER_SECOND)
        if exchange.has_prompt:
            self._routing.observe(exchange.routing_ns / _NS_PER_SECOND)
            self._prompt_tokens.inc(exchange.prompt_tokens)
        worker = exchange.worker
        if worker is None:
            return
        worker = self._bounded("worker", worker)
        self._decisions.labels(worker, self._bounded("reason", exchange.reason or "")).inc()
        self._outcomes.labels(worker, str(exchange.outcome)).inc()
        self._bytes.labels(worker).inc(exchange.body_bytes)
        if exchange.attempts == 1 and exchange.dispatched_ns is not None:
            self._overhead.observe((exchange.dispatched_ns - exchange.received_ns) / _NS_PER_SECOND)
        if exchange.first_byte_ns is not None:
            self._ttfb.observe((exchange.first_byte_ns - exchange.received_ns) / _NS_PER_SECOND)
        if exchange.has_prompt and exchange.actual_cached_tokens is not None:
            self._compared.inc()
            self._predicted.inc(exchange.predicted_cached_tokens)
            self._actual.inc(exchange.actual_cached_tokens)
            self._error.observe(abs(exchange.predicted_cached_tokens - exchange.actual_cached_tokens))

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Count that another worker is asked."""
        self._retries.labels(self._bounded("worker", member.name), str(outcome)).inc()

    def page(self) -> bytes:
        """Return the page of metrics in Prometheus' text format."""
        page: bytes = generate_latest(self.registry)
        return page

    def _bounded(self, label: str, value: str) -> str:
        known = self._labels.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= MAX_LABEL_VALUES:
            return "other"
        known.add(value)
        return value


class _Workers(Collector):
    """The fleet as it is when the page is made."""

    def __init__(self, workers: Callable[[], Iterable[WorkerFigures]]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Any]:
        """Return one family for each figure."""
        families = {
            what: GaugeMetricFamily(f"understudy_router_worker_{what}", text, labels=["worker"])
            for what, text in (
                ("in_flight", "Requests that a worker has from this router."),
                ("blocks_known", "Blocks that a worker is known, or taken, to hold."),
                ("running", "Requests that a worker said it runs."),
                ("waiting", "Requests that a worker said wait."),
                ("kv_usage", "Share of its KV cache that a worker said is in use, 0 to 1."),
                ("report_age_seconds", "Age of what a worker said of its load."),
            )
        }
        health = GaugeMetricFamily(
            "understudy_router_worker_health",
            "1 for what is thought of a worker.",
            labels=["worker", "health"],
        )
        for worker in self._workers():
            for what, family in families.items():
                family.add_metric([worker.name], getattr(worker, what))
            health.add_metric([worker.name, worker.health], 1)
        return [*families.values(), health]
