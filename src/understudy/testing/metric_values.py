"""A page of metrics as numbers."""

from prometheus_client.parser import text_string_to_metric_families


class MetricValues(dict[str, float]):
    """Every series of a page by its name and labels as on the page, labels sorted: `name{a="1",b="2"}`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        ]
        for name, labels, value in self._samples:
            listed = ",".join(f'{label}="{_escaped(labels[label])}"' for label in sorted(labels))
            self[f"{name}{{{listed}}}" if listed else name] = value

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a name that carry these labels; raises KeyError where there is none."""
        found = [
            value
            for sample, others, value in self._samples
            if sample == name and labels.items() <= others.items()
        ]
        if not found:
            raise KeyError(f"no series {name} with labels {labels}")
        return sum(found)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
