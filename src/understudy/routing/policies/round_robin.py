"""Policy `round-robin`: each worker in turn, whatever it holds or does.

worker = decisions made before mod number of workers
"""

from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(_request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the next worker in turn."""
    return Decision(memory.decisions % len(fleet), 0, "in turn")
