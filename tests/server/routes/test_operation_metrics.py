"""Durations of operations are shown as vLLM shows them.

`vllm_operation_metrics.txt` is what the collectors of vLLM 0.33.0 show, at time 7, after one operation of 0.5 s and while
another is under way: first "sleep" of the sleep mode, then "update" of the weights.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from understudy.server.routes.operation_metrics import sleep_metrics, weight_metrics


def test_the_page_is_that_of_vllm() -> None:
    """Nothing before the first operation, then every byte."""
    page = ""
    for make, operation in ((sleep_metrics, "sleep"), (weight_metrics, "update")):
        metrics = make(lambda: 7.0)
        registry = CollectorRegistry()
        registry.register(metrics)
        assert generate_latest(registry) == b""
        metrics.started(operation)
        metrics.ended(operation, 0.5)
        metrics.started(operation)
        page += generate_latest(registry).decode()
    assert page == Path(__file__).with_name("vllm_operation_metrics.txt").read_text(encoding="utf-8")


def test_pages_without_times_of_creation_have_none_here_either() -> None:
    """As the variable of the metrics library asks."""
    metrics = sleep_metrics(None)
    metrics.started("wake")
    metrics.ended("wake", 20.0)
    registry = CollectorRegistry()
    registry.register(metrics)
    assert "_created" not in generate_latest(registry).decode()
