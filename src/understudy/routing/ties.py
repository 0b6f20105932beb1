"""How policies break ties: by load, then round robin."""

from bisect import bisect_left
from collections.abc import Sequence

from understudy.routing.views import FleetView, PolicyMemory


def next_in_turn(tied: Sequence[int], fleet: FleetView, memory: PolicyMemory) -> int:
    """Return the first of these workers, in ascending order, at or after the one whose turn it is, cyclically.

    The worker after the winner is next. Only ties take turns, so workers that keep tying win equally often
    whatever is decided in between. Turns go by slots: between two wins of a worker that ties each time nobody else
    wins twice, also where the fleet is narrowed differently from decision to decision.
    """
    if len(tied) == 1:
        return tied[0]
    slots = fleet.slots
    place = bisect_left(tied, memory.turn, key=slots.__getitem__)
    winner = tied[place] if place < len(tied) else tied[0]
    memory.turn = slots[winner] + 1
    return winner


def least_loaded_of(candidates: Sequence[int], fleet: FleetView, memory: PolicyMemory) -> int:
    """Return which of these workers, in ascending order, has the fewest requests in flight; ties in turn."""
    if len(candidates) == 1:
        return candidates[0]
    workers = fleet.workers
    lowest = min(workers[worker].in_flight for worker in candidates)
    tied = [worker for worker in candidates if workers[worker].in_flight == lowest]
    return next_in_turn(tied, fleet, memory)
