"""All evidence that needs no vLLM: what was recorded of it, and what is computed on the spot."""

from understudy.verify.capacity import compare_capacity
from understudy.verify.defaults import compare_defaults
from understudy.verify.hashing import compare_hashes
from understudy.verify.kv_events import compare_kv_events
from understudy.verify.latency import compare_latency
from understudy.verify.recorded import recorded_trials
from understudy.verify.routing import compare_routing
from understudy.verify.tally import Tallies


def recorded_evidence() -> Tallies:
    """Compare us with everything that was recorded of vLLM and is shipped with the package."""
    tallies = Tallies()
    for compare in (compare_hashes, compare_kv_events, compare_capacity, compare_defaults, recorded_trials):
        tallies.add(compare())
    return tallies


def computed_evidence(seed: int) -> Tallies:
    """Compare us with searches and formulas, over what is drawn from `seed`."""
    tallies = Tallies()
    for compare in (compare_routing, compare_latency):
        tallies.add(compare(seed))
    return tallies
