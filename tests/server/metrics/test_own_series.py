"""Our own series stand behind vLLM's and say how well time is kept."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.server.metrics.recorded import server_metrics

from understudy.server.metrics import ServerMetrics, creates_series_of_creation
from understudy.server.metrics.own_series import LATE_SECONDS


def _own(metrics: ServerMetrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("kind", sample.labels.get("le", ""))): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
        if sample.name.startswith("understudy:") and not sample.name.endswith("_created")
    }


def test_own_families_are_last() -> None:
    """Nothing of vLLM's stands behind them."""
    names = [family.name for family in text_string_to_metric_families(server_metrics().page().decode())]
    first = next(index for index, name in enumerate(names) if name.startswith("understudy:"))
    assert all(name.startswith("understudy:") for name in names[first:])


@given(lags=st.lists(st.floats(0, 10), max_size=20))
def test_late_steps_are_those_beyond_the_limit(lags: list[float]) -> None:
    """All lags are observed; those above the limit, which is also a bucket's bound, are late."""
    metrics = server_metrics()
    for lag in lags:
        metrics.step_lag(lag)
    own = _own(metrics)
    num_late = sum(lag > LATE_SECONDS for lag in lags)
    assert own["understudy:step_lag_seconds_count", ""] == len(lags)
    assert own["understudy:steps_late_total", ""] == num_late
    assert own["understudy:step_lag_seconds_bucket", str(LATE_SECONDS)] == len(lags) - num_late


def test_faults_count_by_kind() -> None:
    """Kinds that are known stand at 0 from the start, others begin when they are met."""
    metrics = server_metrics(fault_kinds=("stall", "crash"))
    for kind in ("crash", "crash", "drop"):
        metrics.fault_injected(kind)
    own = _own(metrics)
    faults = {
        kind: value for (name, kind), value in own.items() if name == "understudy:faults_injected_total"
    }
    assert faults == {"stall": 0, "crash": 2, "drop": 1}


def test_time_scale_is_shown() -> None:
    """The gauge has the speed that was set last."""
    metrics = server_metrics(time_scale=10.0)
    assert _own(metrics)["understudy:time_scale", ""] == 10.0


def test_a_variable_of_the_library_leaves_out_times_of_creation() -> None:
    """PROMETHEUS_DISABLE_CREATED_SERIES is read as prometheus_client reads it."""
    for value in ("true", "True", "1", "t"):
        assert not creates_series_of_creation({"PROMETHEUS_DISABLE_CREATED_SERIES": value})
    for environment in ({}, {"PROMETHEUS_DISABLE_CREATED_SERIES": "false"}):
        assert creates_series_of_creation(environment)
