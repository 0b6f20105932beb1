"""What every policy would choose for one prompt, and what it would choose by. Nothing changes by asking."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any

from understudy.gateway.choice import usable_tokens
from understudy.gateway.fleet import Fleet, Policy
from understudy.gateway.inbound import Inbound
from understudy.routing import PolicyMemory, decide, known_policies, load_policy


def explain(fleet: Fleet, inbound: Inbound) -> Mapping[str, Any]:
    """Return, as a JSON document, the prompt's size, each worker's part in it, and the choice of each policy.

    Chance and turns are those of a router that has just started, but for the policy in use: its are as they stand. Raises
    PolicyError where a user's policy fails.
    """
    members, view = fleet.view(inbound.model)
    request = inbound.routing
    matched: Sequence[int] = ()
    choices: list[Mapping[str, Any]] = []
    if view is not None:
        matched = view.matched_blocks(request)
        for policy, memory in _policies(fleet):
            decision = decide(policy.choose, policy.name, request, view, memory)
            choices.append(
                {
                    "policy": policy.name,
                    "in_use": policy.name == fleet.policy.name,
                    "worker": members[decision.worker].name,
                    "expected_cached_tokens": usable_tokens(decision.matched_blocks, request),
                    "reason": decision.reason,
                }
            )
    return {
        "model": inbound.model,
        "prompt_tokens": request.num_prompt_tokens,
        "prompt_blocks": len(request.block_hashes),
        "block_size": request.block_size,
        "workers": [
            {
                "worker": member.name,
                "cached_tokens": blocks * request.block_size,
                "in_flight": fleet.in_flight(member),
            }
            for member, blocks in zip(members, matched, strict=False)
        ],
        "policies": choices,
    }


def _policies(fleet: Fleet) -> Sequence[tuple[Policy, PolicyMemory]]:
    known = [(Policy(name, load_policy(name)), PolicyMemory(Random(0))) for name in known_policies()]
    others = [(policy, memory) for policy, memory in known if policy.name != fleet.policy.name]
    return [(fleet.policy, deepcopy(fleet.memory)), *others]
