"""Series that vLLM does not have: whether this stand-in keeps its time, and what it was told to break."""

from collections.abc import Sequence

from understudy.server.metrics.series import Counter, Family, FamilyCollector, Gauge, Histogram

LATE_SECONDS = 0.005
"""A step that starts later than this after its planned time counts as late."""

LAG_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)
"""Seconds."""


class OwnSeries(FamilyCollector):
    """The `understudy:` families. `fault_kinds` are those that stand on the page from the start."""

    def __init__(
        self, created_seconds: float, *, with_created: bool, time_scale: float, fault_kinds: Sequence[str]
    ) -> None:
        super().__init__()
        self._created_seconds = created_seconds if with_created else None
        lags = Family[Histogram](
            "histogram",
            "understudy:step_lag_seconds",
            "How much later than planned engine steps started, in seconds of the wall clock.",
        )
        late = Family[Counter](
            "counter",
            "understudy:steps_late",
            f"Engine steps that started more than {LATE_SECONDS} seconds later than planned.",
        )
        scale = Family[Gauge](
            "gauge",
            "understudy:time_scale",
            "Engine seconds that pass in a second of the wall clock.",
        )
        self._faults = Family[Counter](
            "counter", "understudy:faults_injected", "Faults that were injected, by kind."
        )
        self._lag = lags.add(Histogram({}, self._created_seconds, LAG_BUCKETS))
        self._late = late.add(Counter({}, self._created_seconds))
        scale.add(Gauge({}, time_scale))
        self._by_kind: dict[str, Counter] = {}
        for kind in fault_kinds:
            self.fault_injected(kind, 0)
        self.families += [lags, late, scale, self._faults]

    def step_lag(self, lag_seconds: float) -> None:
        """Observe how much later than planned a step started."""
        self._lag.observe(lag_seconds)
        if lag_seconds > LATE_SECONDS:
            self._late.value += 1

    def fault_injected(self, kind: str, count: int = 1) -> None:
        """Add `count` faults of a kind."""
        if kind not in self._by_kind:
            self._by_kind[kind] = self._faults.add(Counter({"kind": kind}, self._created_seconds))
        self._by_kind[kind].value += count
