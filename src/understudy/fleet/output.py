"""Results on disk: a folder that appears whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from understudy.errors import OutputError, UsageError
from understudy.fleet.summary import Comparison

_MAX_NAME_CHARACTERS = 100
_LIST_OF_NUMBERS = re.compile(rb"\[\s+([-+.\deE,\s]+?)\s+\]")


class Record(Protocol):
    """What became of one request."""

    def line(self) -> Mapping[str, object]:
        """Return what is written of it."""
        ...


def to_json(document: object) -> bytes:
    """Return a document as indented JSON, a list of numbers in one line; the same document gives the same bytes."""
    indented = msgspec.json.format(msgspec.json.encode(document), indent=2)
    return _LIST_OF_NUMBERS.sub(lambda match: b"[" + b" ".join(match[1].split()) + b"]", indented) + b"\n"


class ResultsFolder:
    """A folder under construction. It is written beside its final place and takes it when the `with` block succeeds.

    Raises UsageError if the final place is taken, OutputError if nothing can be written there; both before any
    work is done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if os.path.lexists(path):
            raise UsageError(
                f"the output folder {path} exists already: name another with --output, or remove it"
            )
        try:
            if path.parent.exists() and not path.parent.is_dir():
                raise OutputError(f"cannot write to {path}: {path.parent} is not a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            self._partial.chmod(0o777 & ~_umask())
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is None:
            try:
                self._partial.rename(self.path)
            except OSError as failure:
                raise OutputError(
                    f"cannot name the results {self.path}: {failure.strerror}; they are in {self._partial}"
                ) from failure
        else:
            shutil.rmtree(self._partial, ignore_errors=True)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write one file."""
        try:
            with (self._partial / name).open("wb") as file:
                file.writelines(chunks)
        except OSError as error:
            raise OutputError(f"cannot write {self.path / name}: {error.strerror}") from error


def write_results(
    folder: ResultsFolder, comparison: Comparison, records: Mapping[str, Iterable[Record]], report: str
) -> None:
    """Write `summary.json`, the report, and the requests of each policy, one JSON object a line, by arrival."""
    encoder = msgspec.json.Encoder()
    folder.write("summary.json", [to_json(comparison)])
    folder.write("report.html", [report.encode()])
    for name, lines in zip(_file_names(list(records)), records.values(), strict=True):
        folder.write(name, (encoder.encode(record.line()) + b"\n" for record in lines))


def _file_names(policies: Sequence[str]) -> list[str]:
    """Name a file for each policy; no two names are equal, also where case does not count."""
    if len(policies) == 1:
        return ["requests.jsonl"]
    names: list[str] = []
    taken: set[str] = set()
    for policy in policies:
        plain = re.sub(r"[^A-Za-z0-9_-]", "-", policy[:_MAX_NAME_CHARACTERS])
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(f"requests-{name}.jsonl")
    return names


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
