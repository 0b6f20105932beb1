"""Keeps the collector of cyclic garbage from holding up steps: it looks at what requests make, seldom, and at nothing else."""

import contextlib
import gc
from collections.abc import Iterator

YOUNG_OBJECTS = 5_000
"""So many more containers than before make a collection. An answer leaves no circles behind, so there is little to find;
the interpreter's 700 are the beginnings of five streams."""


@contextlib.contextmanager
def calm_heap() -> Iterator[None]:
    """Take what is there now, vocabulary and block pool above all, for permanent, and collect less often; undone at the end."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
