"""Workloads: requests from public traces, our own format or generators, and how they arrive."""

from understudy.workload.arrivals import Arrivals, ClosedLoop, OpenLoop
from understudy.workload.generators import known_generators
from understudy.workload.native import write_native
from understudy.workload.request import WorkloadRequest
from understudy.workload.samples import known_samples
from understudy.workload.timing import bursty, constant, poisson, scaled
from understudy.workload.trace import Trace, open_trace

__all__ = [
    "Arrivals",
    "ClosedLoop",
    "OpenLoop",
    "Trace",
    "WorkloadRequest",
    "bursty",
    "constant",
    "known_generators",
    "known_samples",
    "open_trace",
    "poisson",
    "scaled",
    "write_native",
]
