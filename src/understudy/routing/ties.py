"""How policies break ties: by load, then round robin."""

from collections.abc import Sequence

from understudy.routing.views import FleetView, PolicyMemory


def next_in_turn(tied: Sequence[int], memory: PolicyMemory) -> int:
    """Return the first of these workers, in ascending order, at or after the one whose turn it is, cyclically.

    The worker after the winner is next. Only ties take turns, so workers that keep tying win equally often
    whatever is decided in between.
    """
    if len(tied) == 1:
        return tied[0]
    winner = next((worker for worker in tied if worker >= memory.turn), tied[0])
    memory.turn = winner + 1
    return winner


def least_loaded_of(candidates: Sequence[int], fleet: FleetView, memory: PolicyMemory) -> int:
    """Return which of these workers, in ascending order, has the fewest requests in flight; ties in turn."""
    if len(candidates) == 1:
        return candidates[0]
    workers = fleet.workers
    lowest = min(workers[worker].in_flight for worker in candidates)
    return next_in_turn([worker for worker in candidates if workers[worker].in_flight == lowest], memory)
