"""A routing policy of one's own: the worker with the fewest prompt tokens in flight.

understudy compare conversation-1k --model llama-3.1-8b --policy examples/fewest_tokens.py:choose,least-loaded
"""

from understudy.routing import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(_request: RoutingRequest, fleet: FleetView, _memory: PolicyMemory) -> Decision:
    """Return the worker with the fewest prompt tokens in flight; of equals the first."""
    worker = min(fleet.workers, key=lambda view: (view.in_flight_prompt_tokens, view.index))
    return Decision(worker.index, 0, "fewest prompt tokens in flight")
