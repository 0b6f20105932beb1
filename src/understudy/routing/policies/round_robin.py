"""Policy `round-robin`: each worker in turn, whatever it holds or does.

worker = the one after the last chosen, in the order of slots; after the last of them the first
"""

from understudy.routing.ties import next_in_turn
from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(_request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the next worker in turn."""
    return Decision(next_in_turn(range(len(fleet)), fleet, memory), 0, "in turn")
