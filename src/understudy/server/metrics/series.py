"""What a page of metrics is made of: families of series, whose values cost next to nothing to change.

The library's own Counter and Histogram take a lock for every change and search buckets one by one. These are plain
numbers, for one thread; the library turns them into text when somebody asks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Literal, Protocol, TypeVar, cast

from prometheus_client import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

_bound_text = cast("Callable[[float], str]", floatToGoString)

FamilyType = Literal["counter", "gauge", "histogram", "summary"]


class Series(Protocol):
    """One combination of label values in a family."""

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield what stands on the page, in the library's order."""


class Counter:
    """A number that grows: add to `value`. `created_seconds` is Unix time, None for a page without such series."""

    __slots__ = ("_created_seconds", "_labels", "value")

    def __init__(self, labels: Mapping[str, str], created_seconds: float | None) -> None:
        self._labels = dict(labels)
        self._created_seconds = created_seconds
        self.value: float = 0

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the total and when it began."""
        yield Sample(f"{name}_total", self._labels, self.value)
        if self._created_seconds is not None:
            yield Sample(f"{name}_created", self._labels, self._created_seconds)


class Gauge:
    """A number that goes up and down: set `value`."""

    __slots__ = ("_labels", "value")

    def __init__(self, labels: Mapping[str, str], value: float = 0) -> None:
        self._labels = dict(labels)
        self.value = value

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the value."""
        yield Sample(name, self._labels, self.value)


class Histogram:
    """How many observations were at most each of `bounds` (increasing, without infinity), and their sum."""

    __slots__ = ("_bounds", "_counts", "_created_seconds", "_labels", "_sum", "_texts")

    def __init__(
        self, labels: Mapping[str, str], created_seconds: float | None, bounds: Sequence[float]
    ) -> None:
        self._labels = dict(labels)
        self._created_seconds = created_seconds
        self._bounds = tuple(bounds)
        self._texts = tuple(_bound_text(bound) for bound in (*bounds, float("inf")))
        self._counts = [0] * len(self._texts)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count `value`, `count` times."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the buckets, each with all below it, the count, the sum and when it began."""
        total = 0
        for text, count in zip(self._texts, self._counts, strict=True):
            total += count
            yield Sample(f"{name}_bucket", {**self._labels, "le": text}, total)
        yield Sample(f"{name}_count", self._labels, total)
        yield Sample(f"{name}_sum", self._labels, self._sum)
        if self._created_seconds is not None:
            yield Sample(f"{name}_created", self._labels, self._created_seconds)


class Summary:
    """How many observations there were, and their sum."""

    __slots__ = ("_count", "_created_seconds", "_labels", "_sum")

    def __init__(self, labels: Mapping[str, str], created_seconds: float | None) -> None:
        self._labels = dict(labels)
        self._created_seconds = created_seconds
        self._count = 0
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` once."""
        self._count += 1
        self._sum += value

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the count, the sum and when it began."""
        yield Sample(f"{name}_count", self._labels, self._count)
        yield Sample(f"{name}_sum", self._labels, self._sum)
        if self._created_seconds is not None:
            yield Sample(f"{name}_created", self._labels, self._created_seconds)


SeriesT = TypeVar("SeriesT", bound=Series)


class Family(Generic[SeriesT]):
    """Series of one name, in the order in which they began. The name of a counter goes without `_total`."""

    def __init__(self, family_type: FamilyType, name: str, documentation: str) -> None:
        self._type = family_type
        self._name = name
        self._documentation = documentation
        self._series: list[SeriesT] = []

    def add(self, series: SeriesT) -> SeriesT:
        """Put a series at the end and return it."""
        self._series.append(series)
        return series

    def metric(self) -> Metric:
        """Return the family as it is now."""
        metric = Metric(self._name, self._documentation, self._type)
        for series in self._series:
            metric.samples.extend(series.samples(self._name))
        return metric


class FamilyCollector:
    """Lets the library read families, in their order."""

    def __init__(self) -> None:
        self.families: list[Family[Counter] | Family[Gauge] | Family[Histogram] | Family[Summary]] = []

    def collect(self) -> Iterator[Metric]:
        """Yield every family as it is now."""
        for family in self.families:
            yield family.metric()
