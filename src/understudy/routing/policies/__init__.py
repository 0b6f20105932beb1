"""The built-in policies by the names that the command line knows them by: one module each."""

from understudy.errors import unknown_name
from understudy.routing.policies import (
    dynamo_kv,
    least_loaded,
    llm_d_scorers,
    power_of_two,
    prefix,
    random_worker,
    round_robin,
    session,
    sglang_cache_aware,
)
from understudy.routing.views import Choose

__all__ = ["known_policies", "load_policy"]

_POLICIES: dict[str, Choose] = {
    "prefix": prefix.choose,
    "round-robin": round_robin.choose,
    "least-loaded": least_loaded.choose,
    "random": random_worker.choose,
    "power-of-two": power_of_two.choose,
    "session": session.choose,
    "sglang-cache-aware": sglang_cache_aware.choose,
    "dynamo-kv": dynamo_kv.choose,
    "llm-d-scorers": llm_d_scorers.choose,
}


def known_policies() -> tuple[str, ...]:
    """Return the names of all built-in policies, the default one first."""
    return tuple(_POLICIES)


def load_policy(name: str) -> Choose:
    """Return the built-in policy of this name; raises UsageError if there is none."""
    if name not in _POLICIES:
        raise unknown_name("policy", name, _POLICIES)
    return _POLICIES[name]
