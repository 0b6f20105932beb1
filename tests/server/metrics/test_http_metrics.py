"""HTTP requests count as vLLM's instrumentation counts them."""

import re

import pytest
from tests.server.metrics.recorded import read_handlers, server_metrics

FLAGS = {
    "default": {},
    "no docs": {"disable_fastapi_docs": True},
    "scale-out": {"enable_scale_out": True},
}


@pytest.mark.parametrize("flags", FLAGS)
def test_requests_count_under_vllms_handlers(flags: str) -> None:
    """Each recorded method and path counts under the handler of vLLM's server, or not at all."""
    for request in read_handlers()[flags]:
        metrics = server_metrics(**FLAGS[flags])
        metrics.http(
            request["path"], request["method"], 200, duration_seconds=0.1, request_bytes=0, response_bytes=0
        )
        found = re.findall(
            r'^http_requests_total\{handler="(.*)",method="(.*)",status="2xx"\} 1.0$',
            metrics.page().decode(),
            re.MULTILINE,
        )
        assert found == ([] if request["handler"] is None else [(request["handler"], request["method"])])


def test_a_server_that_nobody_asked_has_no_handlers() -> None:
    """Families are there from the start, their series begin with the first request."""
    lines = [line for line in server_metrics().page().decode().splitlines() if "http_" in line]
    assert "# TYPE http_requests_total counter" in lines
    assert not [line for line in lines if "handler=" in line]
    assert "http_request_duration_highr_seconds_count 0.0" in lines


def test_a_series_begins_at_its_first_request() -> None:
    """The time of creation is that of the first request of the series."""
    moments = iter(range(100, 200))
    metrics = server_metrics(unix_seconds=lambda: float(next(moments)))
    for status in (200, 201, 404):
        metrics.http("/nope", "GET", status, duration_seconds=0.1, request_bytes=0, response_bytes=0)
    created = [
        line for line in metrics.page().decode().splitlines() if line.startswith("http_requests_created{")
    ]
    assert created == [
        'http_requests_created{handler="none",method="GET",status="2xx"} 101.0',
        'http_requests_created{handler="none",method="GET",status="4xx"} 105.0',
    ]


@pytest.mark.parametrize(
    ("root_path", "path", "handler"),
    [
        ("/x", "/openapi.json", "/openapi.json"),
        ("/x", "/docs/", "/x/docs/"),
        ("", "/docs/", "/docs/"),
        ("/x", "/v1/models", "none"),
        ("/metrics-proxy", "/openapi.json", "/openapi.json"),
        ("/metrics-proxy", "/docs/", None),
        ("/metrics-proxy", "/v1/models", None),
    ],
)
def test_a_prefix_counts_as_in_vllm(root_path: str, path: str, handler: str | None) -> None:
    """Known routes are named without it; what else is told or left out goes by the whole path."""
    metrics = server_metrics()
    metrics.http(path, "GET", 200, duration_seconds=0, request_bytes=0, response_bytes=0, root_path=root_path)
    found = re.findall(r'^http_requests_total\{handler="(.*?)"', metrics.page().decode(), re.MULTILINE)
    assert found == ([] if handler is None else [handler])
