"""`understudy up`: emulated workers in processes and the router in front of them, by one command."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Group as FlagGroup
from cyclopts import Parameter

from understudy.cli.event_loop import run_on_fast_loop
from understudy.cli.options import GpuName, ModelName
from understudy.cli.route import sources_of
from understudy.cli.status import INTERRUPTED, SUCCESS
from understudy.errors import UsageError
from understudy.gateway.settings import RouteSettings
from understudy.server.faults import FaultPlan
from understudy.up.fleet_plan import FleetOptions, FleetPlan, plan_fleet
from understudy.up.lines import stream_of_lines
from understudy.up.messages import LogLevel, Messages
from understudy.up.profile import Group, load_profile
from understudy.up.run import run
from understudy.up.terminal import Terminal

DEFAULT_WORKERS = 4
ROUTER = "router"

_NotHere = Parameter(parse=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOptions(RouteSettings):
    """The router's flags, but for those about workers that others have started."""

    worker: Annotated[tuple[str, ...], _NotHere] = ()
    workers_file: Annotated[Path | None, _NotHere] = None
    worker_api_key: Annotated[str | None, _NotHere] = None
    worker_ca: Annotated[Path | None, _NotHere] = None
    admin_port: int | None = 0
    """Port on 127.0.0.1 for the router's admin API; 0 for any that is free."""
    access_log: bool = False
    """Write a line of JSON for each request to standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Which workers, and how many."""

    workers: int | None = None
    """Number of workers. [default: 4]"""
    model: ModelName = "llama-3.1-8b"
    gpu: GpuName = "h100"
    time_scale: float = 1.0
    """0.1 is ten times faster than life, 0 waits for nothing."""
    startup: str = "0s"
    """How long a worker's model loads, such as 30s; until then its connections are refused."""
    profile: Path | None = None
    """File in YAML or JSON with groups of unequal workers; what a group does not say is as these flags say."""
    base_port: int | None = None
    """Port of the first worker; the others have the next ones. [default: any free ports]"""
    worker_admin: bool = False
    """Give each worker an admin port on 127.0.0.1, for faults and crashes."""
    worker_log_level: LogLevel = "info"
    """What is shown of the workers' logs: lines of this level and above."""

    def groups(self) -> Sequence[Group]:
        """Return the groups of the profile, or the only one; raises UsageError and InputError."""
        if self.profile is None:
            return [Group(count=DEFAULT_WORKERS if self.workers is None else self.workers)]
        if self.workers is not None:
            raise UsageError("--workers goes without --profile, whose groups have a count each")
        return load_profile(self.profile)


def up(
    *worker_flags: str,
    workers: Annotated[
        WorkerOptions, Parameter(name="*", group=FlagGroup("Workers", sort_key=2))
    ] = WorkerOptions(),
    json: Annotated[bool, Parameter(negative="")] = False,
    router: Annotated[
        RouterOptions, Parameter(name="*", group=FlagGroup("Router", sort_key=3))
    ] = RouterOptions(),
) -> int:
    """Start emulated workers and a router in front of them; Ctrl-C ends all.

    Parameters
    ----------
    worker_flags
        After --: flags of `understudy serve`, which are vLLM's, for every worker.
    json
        Print what is ready as one line of JSON on standard output.
    """
    options = FleetOptions(
        model=workers.model,
        gpu=workers.gpu,
        time_scale=workers.time_scale,
        startup=workers.startup,
        worker_flags=worker_flags,
        base_port=workers.base_port,
        admin=workers.worker_admin,
        log_level=workers.worker_log_level,
    )
    groups = workers.groups()
    with _folder_for(groups) as folder:
        plan = plan_fleet(groups, options, router, folder)
        return _run(plan, router, workers.worker_log_level, prints_json=json)


@contextlib.contextmanager
def _folder_for(groups: Sequence[Group]) -> Iterator[Path]:
    """Yield a folder for the plans of faults that have no file."""
    if not any(isinstance(group.faults, FaultPlan) for group in groups):
        yield Path()
        return
    with tempfile.TemporaryDirectory(prefix="understudy-up-") as folder:
        yield Path(folder)


def _run(plan: FleetPlan, router: RouteSettings, level: LogLevel, *, prints_json: bool) -> int:
    settings = replace(router, tokenizer=plan.tokenizer)
    is_interactive = sys.stderr.isatty()
    terminal = Terminal(
        sys.stdout.fileno(),
        sys.stderr.fileno(),
        is_interactive=is_interactive,
        has_colours=is_interactive and not os.environ.get("NO_COLOR"),
        width=max(len(ROUTER), *(len(worker.name) for worker in plan.workers)),
    )
    messages = Messages(terminal, settings, level=level, prints_json=prints_json)
    try:
        with contextlib.redirect_stderr(stream_of_lines(lambda line: terminal.say(ROUTER, line))):
            logging.basicConfig(
                level=logging.INFO, format="%(levelname)s:     %(message)s", stream=sys.stderr
            )
            ended_well = run_on_fast_loop(run(plan, settings, sources_of(lambda: settings), messages))
    finally:
        terminal.close()
    return SUCCESS if ended_well else INTERRUPTED
