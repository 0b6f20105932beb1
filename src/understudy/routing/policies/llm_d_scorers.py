"""Policy `llm-d-scorers`: the highest weighted sum of three scores between 0 and 1.

    queue  = (max waiting - waiting) / (max waiting - min waiting), 1 where all wait alike
    kv     = 1 - kv_usage
    prefix = matched_blocks / full blocks of the prompt, 0 where it has none
    worker = argmax 2 * queue + 2 * kv + 3 * prefix; ties: by chance, as upstream

Source: the endpoint picker of llm-d and of the Kubernetes Gateway API Inference Extension, with the weights
of its long-time default configuration. `waiting` and `kv_usage` are as the workers last reported them.
"""

from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest

QUEUE_WEIGHT = 2
KV_WEIGHT = 2
PREFIX_WEIGHT = 3


def choose(request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the worker with the highest sum of scores."""
    workers = fleet.workers
    matched = fleet.matched_blocks(request)
    shortest = min(worker.waiting for worker in workers)
    longest = max(worker.waiting for worker in workers)
    spread = longest - shortest
    full_blocks = len(request.block_hashes)
    totals = [
        QUEUE_WEIGHT * ((longest - worker.waiting) / spread if spread else 1.0)
        + KV_WEIGHT * (1.0 - worker.kv_usage)
        + PREFIX_WEIGHT * (blocks / full_blocks if full_blocks else 0.0)
        for worker, blocks in zip(workers, matched, strict=True)
    ]
    highest = max(totals)
    best = [index for index, total in enumerate(totals) if total == highest]
    worker = best[0] if len(best) == 1 else memory.rng.choice(best)
    return Decision(worker, matched[worker], "highest score")
