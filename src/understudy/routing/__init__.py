"""Which worker gets a request: what a router knows of its fleet, and the policies that decide on it.

Pure: nothing here waits, reads, or tells the time. Whoever drives it, simulator or server, says what has
become known and when, and asks `decide` for a worker.
"""

from understudy.routing.candidates import narrowed
from understudy.routing.decide import decide, describe_failure
from understudy.routing.delay_line import DelayLine
from understudy.routing.guessed_blocks import GuessedBlocks
from understudy.routing.health import Failure, FleetHealth, Health
from understudy.routing.policies import known_policies, load_policy
from understudy.routing.prefix_index import PrefixIndex
from understudy.routing.retry_budget import RetryBudget
from understudy.routing.router_state import Knowledge, RouterState
from understudy.routing.slowness import SlowWorkers
from understudy.routing.views import Choose, Decision, FleetView, PolicyMemory, RoutingRequest, WorkerView
from understudy.routing.worker_key import worker_key
from understudy.routing.worker_speed import Watched

__all__ = [
    "Choose",
    "Decision",
    "DelayLine",
    "Failure",
    "FleetHealth",
    "FleetView",
    "GuessedBlocks",
    "Health",
    "Knowledge",
    "PolicyMemory",
    "PrefixIndex",
    "RetryBudget",
    "RouterState",
    "RoutingRequest",
    "SlowWorkers",
    "Watched",
    "WorkerView",
    "decide",
    "describe_failure",
    "known_policies",
    "load_policy",
    "narrowed",
    "worker_key",
]
