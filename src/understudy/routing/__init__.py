"""Which worker gets a request: what a router knows of its fleet, and the policies that decide on it.

Pure: nothing here waits, reads, or tells the time. Whoever drives it, simulator or server, says what has
become known and when, and asks `decide` for a worker.
"""

from understudy.routing.decide import decide, describe_failure
from understudy.routing.delay_line import DelayLine
from understudy.routing.policies import known_policies, load_policy
from understudy.routing.prefix_index import PrefixIndex
from understudy.routing.recent_prefix_index import RecentPrefixIndex
from understudy.routing.router_state import Knowledge, RouterState
from understudy.routing.views import Choose, Decision, FleetView, PolicyMemory, RoutingRequest, WorkerView

__all__ = [
    "Choose",
    "Decision",
    "DelayLine",
    "FleetView",
    "Knowledge",
    "PolicyMemory",
    "PrefixIndex",
    "RecentPrefixIndex",
    "RouterState",
    "RoutingRequest",
    "WorkerView",
    "decide",
    "describe_failure",
    "known_policies",
    "load_policy",
]
