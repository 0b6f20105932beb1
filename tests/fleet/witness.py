"""A policy that looks at the fleet, notes what it is shown, and leaves the decision to another."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

from understudy.engine import BlockHash
from understudy.routing import Choose, Decision, FleetView, PolicyMemory, RoutingRequest, WorkerView


@dataclass(frozen=True)
class Look:
    """What the policy was shown when it decided on a request, and how many blocks it then took to be cached."""

    hashes: Sequence[BlockHash]
    matched: Sequence[int]
    workers: Sequence[WorkerView]
    expected_blocks: int


@dataclass
class Witness:
    """Looks at each request, or at those named; `looks` are by request id."""

    decides: Choose
    only: frozenset[str] | None = None
    looks: dict[str, Look] = field(default_factory=dict)

    def __call__(self, request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision | int:
        """Look, note, and let the other policy decide."""
        if self.only is not None and request.request_id not in self.only:
            return self.decides(request, fleet, memory)
        hashes = [block for block in request.block_hashes if isinstance(block, (bytes, int))]
        views = [copy(view) for view in fleet.workers]
        matched = list(fleet.matched_blocks(request))
        decision = self.decides(request, fleet, memory)
        expected = decision.matched_blocks if isinstance(decision, Decision) else 0
        self.looks[request.request_id] = Look(hashes, matched, views, expected)
        return decision
