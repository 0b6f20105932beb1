"""How long operations of development mode take: series that vLLM has from the first operation on.

(vllm/entrypoints/serve/dev/sleep/metrics.py and vllm/entrypoints/rl/online/metrics.py, 0.33.0)
"""

from collections.abc import Callable

from understudy.server.metrics.series import Family, FamilyCollector, Gauge, Histogram

BOUNDS_SECONDS = (0.01, 0.1, 1.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class OperationMetrics(FamilyCollector):
    """A histogram of durations and a gauge of operations under way, by operation; an `OperationListener`.

    `prefix` begins the names of both, and the texts of help speak of operations of a `kind`. `unix_seconds` says when a
    series begins, None for a page without such series.
    """

    def __init__(self, prefix: str, kind: str, unix_seconds: Callable[[], float] | None) -> None:
        super().__init__()
        self._durations = Family[Histogram](
            "histogram", f"{prefix}_operation_duration_seconds", f"Duration of one {kind} operation."
        )
        self._in_flight = Family[Gauge](
            "gauge", f"{prefix}_operations_in_flight", f"{kind.capitalize()} operations currently awaited."
        )
        self._unix_seconds = unix_seconds
        self._duration_of: dict[str, Histogram] = {}
        self._number_of: dict[str, Gauge] = {}

    def started(self, operation: str) -> None:
        """Count one more under way."""
        if not self.families:
            self.families += [self._durations, self._in_flight]
        if operation not in self._number_of:
            self._number_of[operation] = self._in_flight.add(Gauge({"operation": operation}))
        self._number_of[operation].value += 1

    def ended(self, operation: str, duration_seconds: float) -> None:
        """Observe one that is over."""
        if operation not in self._duration_of:
            created_seconds = None if self._unix_seconds is None else self._unix_seconds()
            histogram = Histogram({"operation": operation}, created_seconds, BOUNDS_SECONDS)
            self._duration_of[operation] = self._durations.add(histogram)
        self._duration_of[operation].observe(duration_seconds)
        self._number_of[operation].value -= 1


def sleep_metrics(unix_seconds: Callable[[], float] | None) -> OperationMetrics:
    """Return what listens under `operator.SLEEP_OPERATIONS`."""
    return OperationMetrics("vllm:sleep_mode", "sleep-mode", unix_seconds)


def weight_metrics(unix_seconds: Callable[[], float] | None) -> OperationMetrics:
    """Return what listens under `weights.WEIGHT_OPERATIONS`."""
    return OperationMetrics("vllm:rl_weight_update", "weight-transfer", unix_seconds)
