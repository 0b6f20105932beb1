"""Runs the recorded trials against an engine with one deliberate fault: `python -m tests.verify.mutant NUMBER`.

The fault is put in while the module is imported, so no file changes. Prints what disagreed first, or nothing.
"""

import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from tests.verify.mutations import MUTATIONS, Mutation


class _FaultyModule(InspectLoader, MetaPathFinder):
    """Finds and loads one module of the engine, with the fault in it."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation
        self._name = f"understudy.engine.{mutation.file}"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing but the module."""
        if fullname != self._name:
            return None
        found = PathFinder.find_spec(fullname, path)
        assert found is not None
        assert found.origin is not None
        self._path = Path(found.origin)
        return spec_from_loader(fullname, self)

    def get_source(self, _fullname: str) -> str:
        """Return the source with the fault; the text to replace must stand there exactly once."""
        source = self._path.read_text(encoding="utf-8")
        times = source.count(self._mutation.old)
        assert times == 1, f"stands {times} times in {self._path.name}: {self._mutation.old}"
        return source.replace(self._mutation.old, self._mutation.new)


def main(number: int) -> None:
    """Print the first recording that disagrees, and the behaviours that it disagrees on."""
    sys.meta_path.insert(0, _FaultyModule(MUTATIONS[number]))
    from understudy.verify.recorded import recordings  # noqa: PLC0415 - only now, or it would be whole

    from understudy.verify.check import check_case  # noqa: PLC0415 - same # isort: skip
    from understudy.verify.tally import Tallies  # noqa: PLC0415 - same # isort: skip

    for name, recording in recordings():
        tallies = Tallies()
        check_case(recording.case, recording.trial, tallies, name)
        keys = [key for key, tally in tallies.by_key().items() if tally.disagreements]
        if keys:
            print(name, *keys)
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
