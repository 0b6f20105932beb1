"""Policy `sglang-cache-aware`: the longest match if it is long enough, unless the fleet is out of balance.

    q = in_flight
    if max q - min q > 64 and max q > 1.5 * min q:   worker = argmin q
    elif matched tokens / prompt tokens > 0.3:       worker = argmax matched_blocks
    else:                                            worker = argmin q
    ties: the first worker

Source: the cache_aware policy of sglang-router 0.3.2 with the defaults of its command line
(--balance-abs-threshold 64, --balance-rel-threshold 1.5, --cache-threshold 0.3). It measures matches in
characters of the prompt against a tree of its own decisions; here they are tokens of whole blocks, from whatever
the router knows.
"""

from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest

BALANCE_ABS_THRESHOLD = 64
BALANCE_REL_THRESHOLD = 1.5
CACHE_THRESHOLD = 0.3


def choose(request: RoutingRequest, fleet: FleetView, _memory: PolicyMemory) -> Decision:
    """Return the worker that sglang-router's cache_aware policy would take."""
    loads = [worker.in_flight for worker in fleet.workers]
    lowest, highest = min(loads), max(loads)
    least_loaded = loads.index(lowest)
    matched = fleet.matched_blocks(request)
    if highest - lowest > BALANCE_ABS_THRESHOLD and highest > BALANCE_REL_THRESHOLD * lowest:
        return Decision(least_loaded, matched[least_loaded], "out of balance: least loaded")
    longest = max(matched)
    if longest * request.block_size > CACHE_THRESHOLD * request.num_prompt_tokens:
        return Decision(matched.index(longest), longest, "longest prefix")
    return Decision(least_loaded, matched[least_loaded], "short match: least loaded")
