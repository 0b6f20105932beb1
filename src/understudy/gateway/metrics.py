"""What the router counts, under names of its own, in a registry of its own.

Label values come from a bounded set: the fleet's workers, the policy's reasons, a few outcomes and statuses. Series of a worker
that has left go with the next page.
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

PREFIX = "understudy_router_"
OTHER = "other"
MAX_REASONS = 64
"""Different reasons of a policy for one worker; what comes beyond is counted as `other`."""

MAX_WORKERS_COUNTED = 8192
"""Workers with series of their own between two pages: twice what a fleet may have."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NS_PER_SECOND = 1e9
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


class _WorkerSeries:
    """The series of one worker, each bound to its labels when it is first needed."""

    __slots__ = ("_decisions", "_metrics", "_name", "_outcomes", "_retries", "answer_bytes")

    def __init__(self, name: str, metrics: "RouterMetrics") -> None:
        self._name = name
        self._metrics = metrics
        self._decisions: dict[str, Counter] = {}
        self._outcomes: dict[Outcome | None, Counter] = {}
        self._retries: dict[Outcome, Counter] = {}
        self.answer_bytes = metrics.answer_bytes.labels(name)

    def decision(self, reason: str) -> Counter:
        bound = self._decisions.get(reason)
        if bound is None:
            if len(self._decisions) >= MAX_REASONS and reason != OTHER:
                return self.decision(OTHER)
            bound = self._decisions[reason] = self._metrics.decisions.labels(self._name, reason)
        return bound

    def outcome(self, outcome: Outcome | None) -> Counter:
        bound = self._outcomes.get(outcome)
        if bound is None:
            bound = self._outcomes[outcome] = self._metrics.outcomes.labels(self._name, str(outcome))
        return bound

    def retry(self, outcome: Outcome) -> Counter:
        bound = self._retries.get(outcome)
        if bound is None:
            bound = self._retries[outcome] = self._metrics.retries.labels(self._name, str(outcome))
        return bound

    def remove(self) -> None:
        metrics, name = self._metrics, self._name
        for reason in self._decisions:
            metrics.decisions.remove(name, reason)
        for outcome in self._outcomes:
            metrics.outcomes.remove(name, str(outcome))
        for outcome in self._retries:
            metrics.retries.remove(name, str(outcome))
        metrics.answer_bytes.remove(name)


class RouterMetrics:
    """Counters and histograms of requests; an observer of the forwarder.

    `workers` is asked for each page about every worker, `num_waiting` for the length of the queue.
    """

    def __init__(
        self, workers: Callable[[], Iterable[WorkerFigures]], num_waiting: Callable[[], int]
    ) -> None:
        self.registry = CollectorRegistry()
        self._workers = workers
        self._by_worker: dict[str, _WorkerSeries] = {}
        self._by_status: dict[tuple[str, int], Counter] = {}

        def counter(what: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + what, text, labels, registry=self.registry)

        def histogram(what: str, text: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(PREFIX + what, text, registry=self.registry, buckets=tuple(buckets))

        self._requests = counter(
            "requests", "Requests of clients, by what they were answered.", "method", "status"
        )
        self.decisions = counter(
            "decisions", "Choices of a worker, by the policy's reason.", "worker", "reason"
        )
        self.outcomes = counter("outcomes", "How requests to workers ended.", "worker", "outcome")
        self.retries = counter(
            "retries", "Requests tried again, by who failed first and how.", "worker", "outcome"
        )
        self.answer_bytes = counter("answer_bytes", "Bytes of answers' bodies, by worker.", "worker")
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self._predicted = counter(
            "predicted_cached_tokens",
            "Prompt tokens expected in the chosen worker's cache, of compared requests.",
        )
        self._actual = counter(
            "actual_cached_tokens", "Prompt tokens that workers said were cached, of compared requests."
        )
        self._compared = counter("compared_requests", "Requests of which both figures are known.")
        self._error = histogram(
            "cached_tokens_error",
            "Difference of expected and actual cached tokens of a compared request.",
            _TOKEN_BUCKETS,
        )
        self._first_byte = histogram(
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
        self._dispatch = histogram(
            "dispatch_seconds",
            "Time from a request's arrival until it was on its way to the first worker asked.",
            _OVERHEAD_BUCKETS,
        )
        waiting = Gauge(
            PREFIX + "queued_requests", "Requests that wait for a worker.", registry=self.registry
        )
        waiting.set_function(num_waiting)

    def answered(self, exchange: Exchange) -> None:
        """Count a request at its end."""
        received_ns = exchange.received_ns
        self._status(exchange.method, exchange.status).inc()
        self._duration.observe((exchange.ended_ns - received_ns) / _NS_PER_SECOND)
        if exchange.has_prompt:
            self._routing.observe(exchange.routing_ns / _NS_PER_SECOND)
            self._prompt_tokens.inc(exchange.prompt_tokens)
        if exchange.worker is None:
            return
        series = self._series(exchange.worker)
        series.decision(exchange.reason or "").inc()
        series.outcome(exchange.outcome).inc()
        series.answer_bytes.inc(exchange.body_bytes)
        if exchange.attempts == 1 and exchange.dispatched_ns is not None:
            self._dispatch.observe((exchange.dispatched_ns - received_ns) / _NS_PER_SECOND)
        if exchange.first_byte_ns is not None:
            self._first_byte.observe((exchange.first_byte_ns - received_ns) / _NS_PER_SECOND)
        actual, predicted = exchange.actual_cached_tokens, exchange.predicted_cached_tokens
        if exchange.has_prompt and actual is not None:
            self._compared.inc()
            self._predicted.inc(predicted)
            self._actual.inc(actual)
            self._error.observe(abs(predicted - actual))

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Count that another worker is asked."""
        self._series(member.name).retry(outcome).inc()

    def page(self) -> bytes:
        """Return the page of metrics in Prometheus' text format."""
        figures = list(self._workers())
        self._keep_only({worker.name for worker in figures})
        page: bytes = generate_latest(_Page(self.registry, figures))
        return page

    def _status(self, method: str, status: int) -> Counter:
        key = (method if method in _METHODS else OTHER, status)
        bound = self._by_status.get(key)
        if bound is None:
            bound = self._by_status[key] = self._requests.labels(key[0], str(status))
        return bound

    def _series(self, worker: str) -> _WorkerSeries:
        series = self._by_worker.get(worker)
        if series is None:
            if len(self._by_worker) >= MAX_WORKERS_COUNTED:
                self._keep_only({each.name for each in self._workers()})
            series = self._by_worker[worker] = _WorkerSeries(worker, self)
        return series

    def _keep_only(self, names: set[str]) -> None:
        for name in [name for name in self._by_worker if name not in names]:
            self._by_worker.pop(name).remove()


class _Page(Collector):
    """All that stands on one page: what was counted, without the times at which counting began, and the fleet as it is."""

    def __init__(self, counted: CollectorRegistry, workers: Iterable[WorkerFigures]) -> None:
        self._counted = counted
        self._workers = workers

    def collect(self) -> Iterable[Any]:
        """Return one family for each figure."""
        for family in self._counted.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
        families = {
            what: GaugeMetricFamily(f"{PREFIX}worker_{what}", text, labels=["worker"])
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
            f"{PREFIX}worker_health", "1 for what is thought of a worker.", labels=["worker", "health"]
        )
        for worker in self._workers:
            for what, family in families.items():
                family.add_metric([worker.name], getattr(worker, what))
            health.add_metric([worker.name, worker.health], 1)
        yield from families.values()
        yield health
