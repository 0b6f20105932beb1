"""Policy `dynamo-kv`: the lowest sum of blocks to compute before and blocks to read during decoding.

    cost = 1.0 * max(active_prefill_blocks + prompt blocks - matched_blocks, 0) + active_decode_blocks
    worker = argmin cost; ties: round robin

Source: the cost function of the KV router of NVIDIA Dynamo 1.6 with its defaults: overlap weight 1.0, prefill
scale 1.0, temperature 0. Only blocks in GPU memory give credit. Upstream counts a block that several active
requests share once, here each of them counts it; and it breaks ties at random.
"""

from understudy.routing.ties import next_in_turn
from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest

PREFILL_SCALE = 1.0


def choose(request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the worker with the lowest cost."""
    prompt_blocks = request.num_blocks
    matched = fleet.matched_blocks(request)
    costs = [
        PREFILL_SCALE * max(worker.active_prefill_blocks + prompt_blocks - overlap, 0)
        + worker.active_decode_blocks
        for worker, overlap in zip(fleet.workers, matched, strict=True)
    ]
    lowest = min(costs)
    worker = next_in_turn([index for index, cost in enumerate(costs) if cost == lowest], fleet, memory)
    return Decision(worker, matched[worker], "lowest cost")
