"""The traces that come with the package; `data/README.md` says where they are from."""

from dataclasses import dataclass
from importlib.resources import files

from understudy.workload.source import Source

_DATA = files("understudy.workload") / "data"


@dataclass(frozen=True, slots=True)
class Sample:
    """A trace in the package."""

    file_name: str
    num_requests: int


SAMPLES = {
    "conversation": Sample("conversation.jsonl.gz", 12_031),
    "conversation-1k": Sample("conversation-1k.jsonl.gz", 1_000),
}


def known_samples() -> tuple[str, ...]:
    """Return the names of the built-in traces, sorted."""
    return tuple(sorted(SAMPLES))


def sample_source(name: str) -> Source:
    """Return the bytes of a built-in trace."""
    return Source(name, _DATA / SAMPLES[name].file_name)
