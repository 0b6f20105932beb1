"""Policy `session`: all requests of a session to the same worker.

    worker = argmax over w of BLAKE2b-64(session id, keyed with the key of w)

This is rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998):
it remembers nothing, a fleet that grows from n to n + 1 workers moves one session in n + 1, all of them to
the new worker, and a worker that is left out moves its own. A request without a session goes where the fewest requests are in flight, ties round robin.
"""

from hashlib import blake2b

from understudy.routing.ties import least_loaded_of
from understudy.routing.views import Decision, FleetView, PolicyMemory, RoutingRequest


def choose(request: RoutingRequest, fleet: FleetView, memory: PolicyMemory) -> Decision:
    """Return the session's worker, or the least loaded where the request has no session."""
    if request.session_id is None:
        return Decision(least_loaded_of(range(len(fleet)), fleet, memory), 0, "no session: least loaded")
    # A trace may hold half of a surrogate pair, which plain UTF-8 refuses.
    session = request.session_id.encode("utf-8", "surrogatepass")
    scores = [_score(session, key) for key in fleet.keys]
    return Decision(scores.index(max(scores)), 0, "session")


def _score(session: bytes, key: int) -> bytes:
    return blake2b(session, digest_size=8, key=key.to_bytes(8, "little")).digest()
