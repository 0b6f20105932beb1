"""Policy `prefix`: where the most of the prompt is cached.

    worker = argmax matched_blocks; ties: fewest requests in flight, then round robin

Where no worker holds even the first block, all of them tie. Deterministic; no parameters.
"""

from understudy.routing.ties import least_loaded_of
from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the worker with the longest cached prefix, or the least loaded where nothing is cached."""
    matched = fleet.matched_blocks(request)
    longest = max(matched)
    holders = [worker for worker, blocks in enumerate(matched) if blocks == longest]
    worker = least_loaded_of(holders, fleet, memory)
    return Decision(worker, longest, "longest prefix" if longest else "nothing cached: least loaded")
