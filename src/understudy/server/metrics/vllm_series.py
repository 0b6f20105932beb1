"""The series of VLLM_FAMILIES for a number of engines."""

from collections.abc import Mapping, Sequence

from understudy.server.metrics.series import Counter, Family, Gauge, Histogram
from understudy.server.metrics.vllm_families import VLLM_FAMILIES, VllmFamily

SeriesKey = tuple[str, int, str]
"""Name of the family, rank of the engine (0 for families without engines), value of the further label or ""."""


class VllmSeries:
    """All series at 0, by their key, and their families in order."""

    def __init__(
        self,
        model_name: str,
        num_engines: int,
        buckets: Mapping[str, Sequence[float]],
        created_seconds: float | None,
    ) -> None:
        self.families: list[Family[Counter] | Family[Gauge] | Family[Histogram]] = []
        self.counters: dict[SeriesKey, Counter] = {}
        self.gauges: dict[SeriesKey, Gauge] = {}
        self.histograms: dict[SeriesKey, Histogram] = {}
        self._model_name = model_name
        for family in VLLM_FAMILIES:
            series = self._labels(family, num_engines)
            if family.kind == "counter":
                counters = Family[Counter]("counter", family.name, family.documentation)
                for key, labels in series.items():
                    self.counters[key] = counters.add(Counter(labels, created_seconds))
                self.families.append(counters)
            elif family.kind == "gauge":
                gauges = Family[Gauge]("gauge", family.name, family.documentation)
                for key, labels in series.items():
                    self.gauges[key] = gauges.add(Gauge(labels))
                self.families.append(gauges)
            else:
                histograms = Family[Histogram]("histogram", family.name, family.documentation)
                for key, labels in series.items():
                    bounds = buckets[family.buckets]
                    self.histograms[key] = histograms.add(Histogram(labels, created_seconds, bounds))
                self.families.append(histograms)

    def _labels(self, family: VllmFamily, num_engines: int) -> dict[SeriesKey, dict[str, str]]:
        """Return the labels of each series: the further label's values outside, engines inside, as on vLLM's page."""
        result: dict[SeriesKey, dict[str, str]] = {}
        for value in family.label_values:
            for rank in range(num_engines if family.per_engine else 1):
                labels = {"model_name": self._model_name}
                if family.per_engine:
                    labels["engine"] = str(rank)
                if family.label is not None:
                    labels[family.label] = value
                result[family.name, rank, value] = labels
        return result
