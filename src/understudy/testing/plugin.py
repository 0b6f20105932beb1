"""A plug-in for pytest: emulated vLLM workers as fixtures. It imports nothing of a server until a test asks for one.

`understudy_server` is a server that lives as long as the session and is as good as new in every test.
`understudy_fleet(count, *flags, ...)` starts several for one test. Flags come from the ini option `understudy_flags`, then
from `@pytest.mark.understudy(*flags, clock="free", **options)` on the module, the class and the test.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from understudy.testing.fleet import Fleet
    from understudy.testing.handle import ServerHandle

_INI = "understudy_flags"
_MARK = "understudy"


class FleetFactory(Protocol):
    """Starts equal servers that share a thread and a clock; they are closed when the test ends."""

    def __call__(self, count: int, *flags: str, **options: Any) -> "list[ServerHandle]":
        """Return handles; flags and options come behind those of the ini file and the marks."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(
        _INI,
        "flags of `understudy serve` for all servers of the understudy fixtures",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers",
        f'{_MARK}(*flags, clock="free", **options): flags of `understudy serve` for the servers of a test, '
        'and its clock: "free", "manual" or "real".',
    )


@pytest.fixture(scope="session")
def _understudy_fleets() -> "Iterator[dict[str, Fleet]]":
    """Keep the fleets of one of this session, by their flags and options."""
    fleets: dict[str, Fleet] = {}
    yield fleets
    for fleet in fleets.values():
        fleet.close()


@pytest.fixture
def understudy_server(
    request: pytest.FixtureRequest,
    _understudy_fleets: "dict[str, Fleet]",
) -> "Iterator[ServerHandle]":
    """Return a server that is as just started. Tests with equal flags get the same, at the same address."""
    from understudy.testing.clock_handle import DEFAULT_CLOCK  # noqa: PLC0415 - not before a test wants a server
    from understudy.testing.command_line import settings_for  # noqa: PLC0415 - not before a test wants a server
    from understudy.testing.fleet import Fleet  # noqa: PLC0415

    flags, options = _of_test(request)
    key = repr((flags, sorted(options.items())))
    if key not in _understudy_fleets:
        kind, environment = options.pop("clock", DEFAULT_CLOCK), options.pop("environment", None)
        _understudy_fleets[key] = Fleet(1, settings_for(flags, options, kind, environment), kind)
    fleet = _understudy_fleets[key]
    yield fleet.handles[0]
    if fleet.is_open:
        fleet.reset()
    else:
        del _understudy_fleets[key]


@pytest.fixture
def understudy_fleet(request: pytest.FixtureRequest) -> Iterator[FleetFactory]:
    """Return a function that starts servers for this test."""
    from understudy.testing.start import start_fleet  # noqa: PLC0415 - not before a test wants servers

    with ExitStack() as fleets:

        def start(count: int, *flags: str, **options: Any) -> "list[ServerHandle]":
            own_flags, own_options = _of_test(request)
            fleet = start_fleet(count, *own_flags, *flags, **(own_options | options))
            return fleets.enter_context(fleet)

        yield start


def _of_test(request: pytest.FixtureRequest) -> tuple[list[str], dict[str, Any]]:
    """Return the flags and options of a test; what is said later, or nearer to the test, wins."""
    flags = list(request.config.getini(_INI))
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(_MARK))):
        flags += mark.args
        options |= mark.kwargs
    return flags, options
