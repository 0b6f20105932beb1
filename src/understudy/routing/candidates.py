"""A part of a fleet as a fleet of its own, for a request that not every worker may get."""

from collections.abc import Sequence
from functools import cached_property

from understudy.routing.views import FleetView, RoutingRequest, WorkerView


def narrowed(fleet: FleetView, workers: Sequence[int]) -> FleetView:
    """Return the fleet with only these workers, at least one, in ascending order, each once; theirs are 0, 1, 2, ...

    `slots` and `keys` stay what they were, so turns among workers that tie and sessions go on whoever is left out:
    a worker that may always be chosen is not passed over, and only the sessions of those left out move. The `index` of
    a worker's view is set whenever a fleet's `workers` are asked for, and holds until another's are.
    """
    assert workers
    assert list(workers) == sorted(set(workers))
    return fleet if len(workers) == len(fleet) else _Narrowed(fleet, workers)


class _Narrowed:
    """A `FleetView` of some workers of another."""

    def __init__(self, fleet: FleetView, workers: Sequence[int]) -> None:
        self._fleet = fleet
        self._chosen = workers

    def __len__(self) -> int:
        return len(self._chosen)

    @cached_property
    def slots(self) -> Sequence[int]:
        """Which workers these are, as in the whole fleet."""
        return self._of_chosen(self._fleet.slots)

    @cached_property
    def keys(self) -> Sequence[int]:
        """The number that stands for each worker."""
        return self._of_chosen(self._fleet.keys)

    @property
    def workers(self) -> Sequence[WorkerView]:
        """The chosen workers, by index."""
        views = self._fleet.workers
        chosen = [views[worker] for worker in self._chosen]
        for index, view in enumerate(chosen):
            view.index = index
        return chosen

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """Return for each chosen worker how many blocks from the start of the prompt it is taken to hold."""
        return self._of_chosen(self._fleet.matched_blocks(request))

    def _of_chosen(self, values: Sequence[int]) -> Sequence[int]:
        return [values[worker] for worker in self._chosen]
