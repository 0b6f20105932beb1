"""Starts servers in process; no pytest is needed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from understudy.testing.clock_handle import DEFAULT_CLOCK, ClockKind
from understudy.testing.command_line import settings_for
from understudy.testing.fleet import Fleet
from understudy.testing.handle import ServerHandle


@contextmanager
def start_server(
    *flags: str,
    clock: ClockKind = DEFAULT_CLOCK,
    environment: Mapping[str, str] | None = None,
    **options: object,
) -> Iterator[ServerHandle]:
    """Serve while the context is open, with the flags of `understudy serve`; llama-3.1-8b unless a model is given.

    `options` are flags too: `max_num_seqs=8` is `--max-num-seqs 8`. `environment` stands for the process's variables.
    Raises UsageError and InputError for what cannot be served.
    """
    with start_fleet(1, *flags, clock=clock, environment=environment, **options) as handles:
        yield handles[0]


@contextmanager
def start_fleet(
    count: int,
    *flags: str,
    clock: ClockKind = DEFAULT_CLOCK,
    environment: Mapping[str, str] | None = None,
    **options: object,
) -> Iterator[list[ServerHandle]]:
    """Serve `count` equal workers in one thread, by one clock unless it is free; all else as `start_server`."""
    fleet = Fleet(count, settings_for(flags, options, clock, environment), clock)
    try:
        yield fleet.handles
    finally:
        fleet.close()
