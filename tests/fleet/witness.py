"""A policy that looks at the fleet, notes what it is shown, and leaves the decision to another."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

from understudy.engine.hashing import BlockHash
from understudy.routing import Choose, Decision, FleetView, PolicyMemory, RoutingRequest, WorkerView


@dataclass(frozen=True)
class Look:
    """What the policy was shown when it decided on a request."""

    hashes: Sequence[BlockHash]
    matched: Sequence[int]
    workers: Sequence[WorkerView]


@dataclass
class Witness:
    """Looks at each request, or at those named; `looks` are by request id."""

    decides: Choose
    only: frozenset[str] | None = None
    looks: dict[str, Look] = field(default_factory=dict)

    def __call__(self, request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision | int:
        """Look, note, and let the other policy decide."""
        if self.only is None or request.request_id in self.only:
            hashes = [block for block in request.block_hashes if isinstance(block, (bytes, int))]
            views = [copy(view) for view in fleet.workers]
            self.looks[request.request_id] = Look(hashes, list(fleet.matched_blocks(request)), views)
        return self.decides(request, fleet, memory)
