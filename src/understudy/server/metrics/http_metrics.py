"""What prometheus-fastapi-instrumentator 8.1 counts of a server's HTTP requests, as vLLM 0.33 sets it up.

It sees requests behind the checks of API keys and of CORS, so what those answer is not counted. With the FastAPI that
vLLM 0.33 uses it recognises only the few routes that are registered on the application itself; all others, those
of the OpenAI API included, go under "none". (vllm/entrypoints/serve/instrumentator/metrics.py, 0.33.0)
"""

from collections.abc import Callable

from understudy.server.metrics.series import Counter, Family, FamilyCollector, Histogram, Summary

EXCLUDED = ("/metrics", "/health", "/load", "/ping", "/version", "/server_info")
"""A request whose path contains one of these is not counted."""

UNKNOWN_HANDLER = "none"

DOCUMENTATION_PATHS = ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
"""Routes of the application itself, for GET and HEAD, unless `--disable-fastapi-docs`."""

SCALE_OUT_PATHS = (
    "/v1/chat/completions/render",
    "/v1/messages/render",
    "/v1/completions/render",
    "/v1/responses/render",
    "/v1/chat/completions/derender",
    "/v1/completions/derender",
    "/inference/v1/generate",
    "/inference/v1/abort_requests",
)
"""Routes of the application itself, for POST, unless `--enable-scale-out`: they say that scale-out is off."""

MANY_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5),
    *(7.5, 10, 30, 60),
)
"""Seconds."""

FEW_BUCKETS = (0.1, 0.5, 1)
"""Seconds."""


class HttpMetrics(FamilyCollector):
    """Counts requests by handler, method and class of status. `unix_seconds` says when a series begins."""

    def __init__(
        self,
        unix_seconds: Callable[[], float],
        *,
        with_created: bool,
        disable_fastapi_docs: bool,
        enable_scale_out: bool,
    ) -> None:
        super().__init__()
        self._created = unix_seconds if with_created else _never
        docs = () if disable_fastapi_docs else DOCUMENTATION_PATHS
        self._known = {(method, path) for method in ("GET", "HEAD") for path in docs}
        self._known |= {("POST", path) for path in SCALE_OUT_PATHS if not enable_scale_out}
        self._requests = Family[Counter](
            "counter", "http_requests", "Total number of requests by method, status and handler."
        )
        self._request_sizes = Family[Summary](
            "summary",
            "http_request_size_bytes",
            "Content length of incoming requests by handler. Only value of header is respected. Otherwise ignored. "
            "No percentile calculated. ",
        )
        self._response_sizes = Family[Summary](
            "summary",
            "http_response_size_bytes",
            "Content length of outgoing responses by handler. Only value of header is respected. Otherwise ignored. "
            "No percentile calculated. ",
        )
        all_durations = Family[Histogram](
            "histogram",
            "http_request_duration_highr_seconds",
            "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. ",
        )
        self._durations = Family[Histogram](
            "histogram",
            "http_request_duration_seconds",
            "Latency with only few buckets by handler. "
            "Made to be only used if aggregation by handler is important. ",
        )
        self._all_durations = all_durations.add(Histogram({}, self._created(), MANY_BUCKETS))
        self.families += [
            *(self._requests, self._request_sizes, self._response_sizes),
            *(all_durations, self._durations),
        ]
        self._by_status: dict[tuple[str, str, str], Counter] = {}
        self._by_handler: dict[str, tuple[Summary, Summary]] = {}
        self._by_method: dict[tuple[str, str], Histogram] = {}

    def record(
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
        """Count a request that is over: its sizes are those of the Content-Length headers, 0 where there is none.

        `root_path` is what was taken off the path; the instrumentation knows the routes without it, and all else by
        the whole path.
        """
        shown = path if (method, path) in self._known else root_path + path
        if any(excluded in shown for excluded in EXCLUDED):
            return
        handler = shown if self._is_known(path, method) else UNKNOWN_HANDLER
        self._requests_of(handler, method, f"{status // 100}xx").value += 1
        request_sizes, response_sizes = self._sizes_of(handler)
        request_sizes.observe(request_bytes)
        response_sizes.observe(response_bytes)
        self._all_durations.observe(duration_seconds)
        self._durations_of(handler, method).observe(duration_seconds)

    def _is_known(self, path: str, method: str) -> bool:
        """Return whether a path is of a known route, or would be with or without a slash at the end."""
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        return not {(method, path), (method, other)}.isdisjoint(self._known)

    def _requests_of(self, handler: str, method: str, status: str) -> Counter:
        key = handler, method, status
        if key not in self._by_status:
            labels = {"method": method, "status": status, "handler": handler}
            self._by_status[key] = self._requests.add(Counter(labels, self._created()))
        return self._by_status[key]

    def _sizes_of(self, handler: str) -> tuple[Summary, Summary]:
        if handler not in self._by_handler:
            labels = {"handler": handler}
            self._by_handler[handler] = (
                self._request_sizes.add(Summary(labels, self._created())),
                self._response_sizes.add(Summary(labels, self._created())),
            )
        return self._by_handler[handler]

    def _durations_of(self, handler: str, method: str) -> Histogram:
        key = handler, method
        if key not in self._by_method:
            labels = {"method": method, "handler": handler}
            self._by_method[key] = self._durations.add(Histogram(labels, self._created(), FEW_BUCKETS))
        return self._by_method[key]


def _never() -> None:
    return None
