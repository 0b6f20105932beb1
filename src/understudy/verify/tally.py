"""Counts comparisons and disagreements, behaviour by behaviour."""

from collections import defaultdict
from dataclasses import dataclass, field

MAX_EXAMPLES = 3


@dataclass(slots=True)
class Tally:
    """What became of the comparisons of one behaviour; `examples` describes the first few disagreements."""

    comparisons: int = 0
    disagreements: int = 0
    examples: list[str] = field(default_factory=list)


class Tallies:
    """A tally for each behaviour, by its key."""

    def __init__(self) -> None:
        self._by_key: defaultdict[str, Tally] = defaultdict(Tally)

    def __getitem__(self, key: str) -> Tally:
        return self._by_key[key]

    def compare(self, key: str, where: str, theirs: object, ours: object) -> bool:
        """Count one comparison by equality; `where` says of what. Returns whether both are equal."""
        tally = self._by_key[key]
        tally.comparisons += 1
        if theirs == ours:
            return True
        tally.disagreements += 1
        if len(tally.examples) < MAX_EXAMPLES:
            tally.examples.append(f"{where}: vLLM {theirs!r}, understudy {ours!r}")
        return False

    def add(self, other: "Tallies") -> None:
        """Take in the counts of others."""
        for key, tally in other.by_key().items():
            mine = self._by_key[key]
            mine.comparisons += tally.comparisons
            mine.disagreements += tally.disagreements
            mine.examples = (mine.examples + tally.examples)[:MAX_EXAMPLES]

    def by_key(self) -> dict[str, Tally]:
        """Return all tallies."""
        return dict(self._by_key)
