"""Policy `least-loaded`: where the fewest requests are in flight.

    worker = argmin in_flight; ties: round robin

The load is the router's own count, which is never late, not what workers report.
"""

from understudy.routing.ties import least_loaded_of
from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(_request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the worker with the fewest requests in flight."""
    return Decision(least_loaded_of(range(len(fleet)), fleet, memory), 0, "least loaded")
