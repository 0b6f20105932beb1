"""For testers: emulated workers in this process, on real sockets, with a clock that the test moves.

`start_server` and `start_fleet` need no pytest; `understudy.testing.plugin` has fixtures. Importing this package costs
nothing until one of its names is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.testing.clock_handle import ClockHandle, ClockKind
    from understudy.testing.handle import ServerHandle
    from understudy.testing.metric_values import MetricValues
    from understudy.testing.request_log import ArrivedRequest
    from understudy.testing.start import start_fleet, start_server

__all__ = [
    "ArrivedRequest",
    "ClockHandle",
    "ClockKind",
    "MetricValues",
    "ServerHandle",
    "start_fleet",
    "start_server",
]

_MODULES = {
    "ArrivedRequest": "request_log",
    "ClockHandle": "clock_handle",
    "ClockKind": "clock_handle",
    "MetricValues": "metric_values",
    "ServerHandle": "handle",
    "start_fleet": "start",
    "start_server": "start",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - nothing is imported before it is used

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
