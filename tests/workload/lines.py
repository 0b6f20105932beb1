"""Lines of each trace format, right unless a test asks for something else."""

import json
from pathlib import Path

from understudy.workload import WorkloadRequest, open_trace

AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def mooncake(**changes: object) -> str:
    """Return a line of a Mooncake trace; a field that is changed to ... is left out."""
    record: dict[str, object] = {"timestamp": 5, "input_length": 600, "output_length": 7, "hash_ids": [0, 1]}
    return _line(record, changes)


def native(**changes: object) -> str:
    """Return a line of our own format; a field that is changed to ... is left out."""
    record: dict[str, object] = {"id": "a", "arrival_seconds": 0.5, "prompt": [1, 2, 3], "output_tokens": 4}
    return _line(record, changes)


def _line(record: dict[str, object], changes: dict[str, object]) -> str:
    merged = {**record, **changes}
    return json.dumps({name: value for name, value in merged.items() if value is not ...})


def read(path: Path, *lines: str) -> list[WorkloadRequest]:
    """Write lines to a file and read them as a trace."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return list(open_trace(path))
