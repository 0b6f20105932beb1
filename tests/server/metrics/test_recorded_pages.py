"""Our page is the page that vLLM 0.33 writes."""

import re
from itertools import takewhile

import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from tests.server.metrics.recorded import SCENARIOS, metrics_of, read_page, read_scenario, server_metrics

from understudy.server.metrics import PAGE_CONTENT_TYPE, ServerMetrics


def _vllm_part(page: str) -> str:
    """Return the page from the first `vllm:` or `http_` family up to our own families."""
    return page[page.index("# HELP vllm:") :].partition("# HELP understudy:")[0]


def _without_values(page: str) -> list[str]:
    return [line if line.startswith("#") else line.rpartition(" ")[0] for line in page.splitlines()]


def _fresh() -> ServerMetrics:
    metrics = server_metrics()
    for _ in range(2):
        metrics.http("/v1/models", "GET", 200, duration_seconds=0.004, request_bytes=0, response_bytes=465)
    return metrics


@pytest.mark.parametrize("name", SCENARIOS)
def test_equal_updates_give_equal_bytes(name: str) -> None:
    """After the same updates the page has the same bytes, values and times of creation included."""
    ours = metrics_of(read_scenario(name)).page().decode()
    assert _vllm_part(ours) == read_page(name)


def test_fresh_server_has_every_line_of_vllm_serve() -> None:
    """But for values, the page of a fresh server is line by line that of `vllm serve`."""
    ours = _fresh().page().decode()
    assert _without_values(_vllm_part(ours)) == _without_values(_vllm_part(read_page("vllm-serve")))


def test_fresh_server_has_the_configuration_of_vllm_serve() -> None:
    """With the same blocks and context the labels of the cache's configuration have the same values."""
    pattern = re.compile(r"^vllm:cache_config_info\{.*", re.MULTILINE)
    assert pattern.findall(_fresh().page().decode()) == pattern.findall(read_page("vllm-serve"))


def test_families_parse_to_those_of_vllm_serve() -> None:
    """Prometheus reads the same families, in order: name, type, help, and the names and values of labels."""

    def families(page: str) -> list[object]:
        return [
            (
                family.name,
                family.type,
                family.documentation,
                [(sample.name, sample.labels) for sample in family.samples],
            )
            for family in text_string_to_metric_families(page)
        ]

    assert families(_vllm_part(_fresh().page().decode())) == families(_vllm_part(read_page("vllm-serve")))


def test_process_families_come_first() -> None:
    """Before all others stand the families that the library has for this platform: on Linux those of vLLM's page."""
    registry = CollectorRegistry()
    for collector in (GCCollector, PlatformCollector, ProcessCollector):
        collector(registry=registry)
    expected = [family.name for family in registry.collect()]
    ours = list(text_string_to_metric_families(_fresh().page().decode()))
    assert [family.name for family in ours][: len(expected)] == expected
    theirs = text_string_to_metric_families(read_page("vllm-serve"))
    of_vllm = {
        family.name for family in takewhile(lambda family: not family.name.startswith("vllm:"), theirs)
    }
    assert set(expected) <= of_vllm


def test_content_type_is_that_of_vllm() -> None:
    """The content type is the one in vLLM's answer."""
    assert PAGE_CONTENT_TYPE == "text/plain; version=1.0.0; charset=utf-8"


def test_without_log_stats_no_vllm_series_are_left() -> None:
    """With --disable-log-stats the page is the same without everything of vLLM's."""
    page = server_metrics(disable_log_stats=True).page().decode()
    assert "vllm:" not in page
    with_stats = server_metrics().page().decode()
    kept = [line for line in _without_values(with_stats) if "vllm:" not in line]
    assert [line for line in _without_values(page) if "http_" in line or "understudy" in line] == [
        line for line in kept if "http_" in line or "understudy" in line
    ]


def test_what_is_counted_without_log_stats_is_not_shown() -> None:
    """Engines may be told everything all the same."""
    metrics = server_metrics(disable_log_stats=True)
    metrics.engines[0].generated(5)
    metrics.rejected("max_num_queued_reqs")
    assert b"vllm:" not in metrics.page()


def test_times_of_creation_can_be_left_out() -> None:
    """Without them the page is the same but for the `_created` families."""
    without = server_metrics(with_created=False, fault_kinds=("stall",))
    with_created = server_metrics(fault_kinds=("stall",))
    for metrics in (without, with_created):
        metrics.http("/docs", "GET", 200, duration_seconds=1.0, request_bytes=0, response_bytes=0)
    expected = [line for line in _without_values(with_created.page().decode()) if "_created" not in line]
    assert _without_values(without.page().decode()) == expected
