"""The router's metrics: what is counted, under which names, and that there are never too many of them."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.gateway.behind import before
from tests.gateway.exchanges import exchange
from tests.gateway.routed import routed
from tests.server.serving import Metrics

from understudy.gateway.member import Member
from understudy.gateway.metrics import MAX_REASONS, PREFIX, RouterMetrics, WorkerFigures
from understudy.gateway.outcome import Outcome

GUIDE = Path(__file__).parents[2] / "docs" / "router.md"
ROW = re.compile(rf"^\| `({PREFIX}\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def figures(name: str) -> WorkerFigures:
    """Return what is known of a worker."""
    return WorkerFigures(
        name=name,
        health="healthy",
        in_flight=1,
        blocks_known=2,
        running=3,
        waiting=4,
        kv_usage=0.5,
        report_age_seconds=0.1,
    )


def metrics_of(*names: str) -> RouterMetrics:
    """Return the metrics of a fleet of these workers."""
    return RouterMetrics(lambda: [figures(name) for name in names], lambda: 7)


def page_of(metrics: RouterMetrics) -> Metrics:
    """Return the page as Prometheus reads it."""
    return Metrics(metrics.page().decode())


def member(name: str) -> Member:
    """Return a worker that is never asked."""
    return Member(name, 0, cast("Any", None))


def labels_of(metrics: RouterMetrics) -> Mapping[str, tuple[str, set[str]]]:
    """Return the type and the labels of each family that is on the page."""
    return {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in text_string_to_metric_families(metrics.page().decode())
    }


def test_a_request_is_counted_where_it_belongs() -> None:
    """By status, worker, reason and outcome; times in seconds; expected against actual tokens where both are known."""
    metrics = metrics_of("http://w")
    metrics.answered(exchange())
    metrics.answered(exchange(actual_cached_tokens=None, outcome=Outcome.BROKEN, status=502))
    metrics.answered(
        exchange(worker=None, reason=None, outcome=None, attempts=0, has_prompt=False, status=503)
    )
    metrics.retried(member("http://w"), Outcome.CONNECT_FAILED)
    page = page_of(metrics)
    for name, labels, value in (
        ("requests_total", {"method": "POST", "status": "200"}, 1),
        ("requests_total", {}, 3),
        ("decisions_total", {"worker": "http://w", "reason": "prefix"}, 2),
        ("outcomes_total", {"worker": "http://w", "outcome": "broken"}, 1),
        ("retries_total", {"worker": "http://w", "outcome": "connect_failed"}, 1),
        ("answer_bytes_total", {"worker": "http://w"}, 2000),
        ("prompt_tokens_total", {}, 200),
        ("compared_requests_total", {}, 1),
        ("predicted_cached_tokens_total", {}, 64),
        ("actual_cached_tokens_total", {}, 48),
        ("cached_tokens_error_sum", {}, 16),
        ("request_seconds_sum", {}, 1.5),
        ("first_byte_seconds_sum", {}, 0.04),
        ("dispatch_seconds_sum", {}, 0.002),
        ("routing_seconds_count", {}, 2),
        ("queued_requests", {}, 7),
        ("worker_in_flight", {"worker": "http://w"}, 1),
        ("worker_health", {"worker": "http://w", "health": "healthy"}, 1),
    ):
        assert round(page.total(PREFIX + name, **labels), 9) == value, name


def test_series_of_a_worker_that_left_go_away() -> None:
    """With the next page, for good; one that comes back begins anew, and the totals of requests stay."""
    names = ["http://a", "http://b"]
    metrics = RouterMetrics(lambda: [figures(name) for name in names], lambda: 0)
    for name in names:
        metrics.answered(exchange(worker=name))
        metrics.retried(member(name), Outcome.REFUSED)
    assert b"http://a" in metrics.page()
    names.remove("http://a")
    metrics.answered(exchange(worker="http://a"))
    page = metrics.page()
    assert b"http://a" not in page
    assert page.count(b"http://b") == 11
    assert page_of(metrics).total(f"{PREFIX}requests_total") == 3
    names.append("http://a")
    metrics.answered(exchange(worker="http://a"))
    assert page_of(metrics).total(f"{PREFIX}decisions_total", worker="http://a") == 1


@given(st.lists(st.tuples(st.text(), st.text(), st.integers(100, 999)), max_size=300))
def test_labels_are_bounded(requests: list[tuple[str, str, int]]) -> None:
    """Whatever methods clients invent and however many reasons a policy has; and Prometheus reads the page."""
    metrics = metrics_of("http://w")
    for method, reason, status in requests:
        metrics.answered(exchange(method=method, reason=reason, status=status))
    page = page_of(metrics)
    if requests:
        assert page.total(f"{PREFIX}decisions_total") == len(requests)
    methods = set(re.findall(r'requests_total{method="(\w+)"', metrics.page().decode()))
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_reasons_beyond_the_bound_are_counted_together() -> None:
    """As `other`."""
    metrics = metrics_of("http://w")
    for number in range(MAX_REASONS + 50):
        metrics.answered(exchange(reason=f"reason-{number}"))
    page = page_of(metrics)
    assert page.total(f"{PREFIX}decisions_total", reason="other") == 50
    assert page.total(f"{PREFIX}decisions_total") == MAX_REASONS + 50
    assert metrics.page().count(b"decisions_total{") == MAX_REASONS + 1


def test_no_series_tells_when_it_was_made() -> None:
    """As on a worker's page."""
    metrics = metrics_of("http://w")
    metrics.answered(exchange())
    assert b"_created" not in metrics.page()


def test_the_guide_lists_what_there_is() -> None:
    """Name, type and labels of every family, and none besides."""
    metrics = metrics_of("http://w")
    metrics.answered(exchange())
    metrics.retried(member("http://w"), Outcome.REFUSED)
    told = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(GUIDE.read_text(encoding="utf-8"))
    }
    found = {
        name + ("_total" if kind == "counter" else ""): (kind, labels)
        for name, (kind, labels) in labels_of(metrics).items()
    }
    assert told == found


def test_the_page_of_a_router_is_whole() -> None:
    """After real requests: predicted and actual tokens agree, and every worker is on it until it leaves."""

    async def scenario() -> None:
        async with routed(2) as router:
            for _ in range(3):
                await router.complete(prompt="hello there " * 100, max_tokens=2)
            page = Metrics((await router.get("/metrics")).text)
            assert page.total(f"{PREFIX}requests_total", status="200") == 3
            assert page.total(f"{PREFIX}compared_requests_total") == 3
            assert page.total(f"{PREFIX}cached_tokens_error_sum") == 0
            assert page.total(f"{PREFIX}actual_cached_tokens_total") > 0
            for worker in router.workers:
                assert page.total(f"{PREFIX}worker_health", worker=worker.url) == 1
            router.router.fleet.remove(router.router.fleet[router.workers[0].url])
            assert router.workers[0].url not in (await router.get("/metrics")).text

    asyncio.run(scenario())


def test_what_the_router_answers_itself_is_counted() -> None:
    """Orders to all workers, and refusals; but not who reads this page or asks for its health."""

    async def scenario() -> None:
        async with before({}, {}, api_key=("k",)) as (router, _):
            key = {"Authorization": "Bearer k"}
            await router.post("/reset_prefix_cache", b"", key)
            await router.post("/reset_prefix_cache", b"")
            for _ in range(3):
                await router.get("/health")
                text = (await router.get("/metrics")).text
            page = Metrics(text)
            assert page.total(f"{PREFIX}requests_total", status="200") == 1
            assert page.total(f"{PREFIX}requests_total", status="401") == 1
            assert page.total(f"{PREFIX}requests_total") == 2

    asyncio.run(scenario())
