"""What goes wrong on purpose: on a timetable, seeded, from a file or by an operator's word."""

from understudy.server.faults.injector import FaultInjector, RequestFaults
from understudy.server.faults.plan import (
    Crash,
    Cut,
    Events,
    Fault,
    FaultPlan,
    FreezeMetrics,
    HttpError,
    Refuse,
    Slow,
    Stall,
    load_fault_plan,
    parse_fault_plan,
)

__all__ = [
    "Crash",
    "Cut",
    "Events",
    "Fault",
    "FaultInjector",
    "FaultPlan",
    "FreezeMetrics",
    "HttpError",
    "Refuse",
    "RequestFaults",
    "Slow",
    "Stall",
    "load_fault_plan",
    "parse_fault_plan",
]
