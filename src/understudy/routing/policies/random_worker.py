"""Policy `random`: any worker, all equally likely."""

from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(_request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return a worker by chance."""
    return Decision(memory.rng.randrange(len(fleet)), 0, "by chance")
