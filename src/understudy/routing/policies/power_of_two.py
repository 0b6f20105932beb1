"""Policy `power-of-two`: the less loaded of two different workers drawn at random.

    a, b = two workers by chance; worker = a if in_flight(a) <= in_flight(b) else b

Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001, drawn without
replacement as the routers of SGLang and vLLM do.
"""

from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(_request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the less loaded of two workers drawn by chance; the only worker if there is but one."""
    if len(fleet) == 1:
        return Decision(0, 0, "only worker")
    first, second = memory.rng.sample(range(len(fleet)), 2)
    workers = fleet.workers
    worker = first if workers[first].in_flight <= workers[second].in_flight else second
    return Decision(worker, 0, "less loaded of two")
