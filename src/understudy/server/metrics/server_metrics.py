"""The metrics of one server and the page that shows them."""

import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from understudy.server.metrics.buckets import histogram_buckets
from understudy.server.metrics.engine_metrics import EngineMetrics
from understudy.server.metrics.extra_series import LoRARequests, ToolCalls, cache_config_info
from understudy.server.metrics.http_metrics import HttpMetrics
from understudy.server.metrics.own_series import OwnSeries
from understudy.server.metrics.series import FamilyCollector
from understudy.server.metrics.vllm_series import VllmSeries

PAGE_CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Content type of the answer to GET /metrics."""


def creates_series_of_creation(environment: Mapping[str, str]) -> bool:
    """Return whether the page has `_created` series: prometheus_client leaves them out where a variable says so."""
    disable = environment.get("PROMETHEUS_DISABLE_CREATED_SERIES", "False")
    return disable.lower() not in {"true", "1", "t"}


class ServerMetrics:
    """Everything that a server counts, all at 0 from the start.

    `cache_config` has the labels of `cache_config_labels` for each of `num_engines`. `created_seconds` is the Unix
    time of the start. With `disable_log_stats` what is counted for `vllm:` series is not shown. `max_loras` is None
    without LoRA, `has_tool_parser` whether `--tool-call-parser` was given, `with_created` as
    `creates_series_of_creation` says. The `understudy:` series of `previous` metrics go on, if such are given.
    """

    def __init__(
        self,
        *,
        model_name: str,
        num_engines: int,
        max_model_len: int,
        cache_config: Sequence[Mapping[str, str]],
        created_seconds: float,
        disable_log_stats: bool = False,
        custom_histogram_buckets: Mapping[str, Sequence[float]] | None = None,
        max_loras: int | None = None,
        has_tool_parser: bool = False,
        disable_fastapi_docs: bool = False,
        enable_scale_out: bool = False,
        with_created: bool = True,
        time_scale: float = 1.0,
        fault_kinds: Sequence[str] = (),
        previous: "ServerMetrics | None" = None,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        assert len(cache_config) == num_engines, "each engine has its labels"
        created = created_seconds if with_created else None
        buckets = histogram_buckets(max_model_len, custom_histogram_buckets)
        series = VllmSeries(model_name, num_engines, buckets, created)
        lora = None if max_loras is None else LoRARequests(max_loras)
        self._rejections = series.counters
        self._tool_calls = ToolCalls(model_name, created) if has_tool_parser else None
        self.engines: Sequence[EngineMetrics] = [
            EngineMetrics(series, rank, None if lora is None else lora.record) for rank in range(num_engines)
        ]
        vllm = FamilyCollector()
        if not disable_log_stats:
            vllm.families += series.families
            if lora is not None:
                vllm.families.append(lora.family)
            vllm.families.append(cache_config_info(cache_config))
        if self._tool_calls is not None:
            vllm.families.append(self._tool_calls.family)
        self._http = HttpMetrics(
            unix_seconds,
            with_created=with_created,
            disable_fastapi_docs=disable_fastapi_docs,
            enable_scale_out=enable_scale_out,
        )
        self.own: OwnSeries = (
            OwnSeries(
                created_seconds, with_created=with_created, time_scale=time_scale, fault_kinds=fault_kinds
            )
            if previous is None
            else previous.own
        )
        self._registry = CollectorRegistry()
        GCCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        ProcessCollector(registry=self._registry)
        for collector in (vllm, self._http, self.own):
            self._registry.register(collector)

    def rejected(self, reason: str) -> None:
        """Count a request that a limit of the queue refused; `reason` is one of REJECTION_REASONS."""
        self._rejections["vllm:admission_rejections", 0, reason].value += 1

    def tool_parsed(
        self, request_type: str, *, is_streaming: bool, is_tool_called: bool, count: int = 1
    ) -> None:
        """Count a look of the tool parser at an answer or, streaming, at a piece; nothing without a tool parser."""
        if self._tool_calls is not None:
            self._tool_calls.record(
                request_type, is_streaming=is_streaming, is_tool_called=is_tool_called, count=count
            )

    def http(
        self,
        path: str,
        method: str,
        status: int,
        *,
        duration_seconds: float,
        request_bytes: int,
        response_bytes: int,
        root_path: str = "",
    ) -> None:
        """Count a request that is over, stream included; vLLM's excluded paths are left out, most others go as "none".

        The sizes are those of the Content-Length headers, 0 where there is none; `root_path` was taken off the path.
        """
        self._http.record(
            path,
            method,
            status,
            duration_seconds=duration_seconds,
            request_bytes=request_bytes,
            response_bytes=response_bytes,
            root_path=root_path,
        )

    def step_lag(self, lag_seconds: float) -> None:
        """Observe how much later than planned a step started."""
        self.own.step_lag(lag_seconds)

    def fault_injected(self, kind: str) -> None:
        """Count a fault that was injected."""
        self.own.fault_injected(kind)

    def add(self, collector: FamilyCollector) -> None:
        """Show more series, behind all others."""
        self._registry.register(collector)

    def page(self) -> bytes:
        """Return the page as it is now; its content type is PAGE_CONTENT_TYPE."""
        return generate_latest(self._registry)
