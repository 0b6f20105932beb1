"""Progress of a long run on a terminal; silence in a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from understudy.fleet import ProgressCallback

_REQUESTS_PER_UPDATE = 50


@contextmanager
def progress_on(stream: TextIO, total: int | None) -> Iterator[ProgressCallback]:
    """Give a callback that shows how many requests of each policy have arrived; `total` None means unknown."""
    if not stream.isatty():
        yield lambda _policy, _count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        tasks: dict[str, int] = {}

        def show(policy: str, count: int) -> None:
            if policy not in tasks:
                tasks[policy] = int(progress.add_task(policy, total=total))
            if count % _REQUESTS_PER_UPDATE == 0:
                progress.update(list(progress.task_ids)[tasks[policy]], completed=count)

        yield show
