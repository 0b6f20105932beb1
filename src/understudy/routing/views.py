"""What a routing policy sees and answers: the request, the fleet, its own memory, and a decision.

These are the terms of the contract between a policy, also one that a user writes, and whoever drives it.
Nothing here knows how the knowledge was come by.
"""

import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias


@dataclass(slots=True, kw_only=True)
class WorkerView:
    """What the router knows of one worker, `index` of the fleet that it was got from.

    Its own count, always true: `in_flight` requests dispatched and not finished, the prompt tokens of
    those, `requests_routed` ever, and two numbers of blocks: `active_prefill_blocks` of the prompts whose
    first token is still to come, without those that the router took to be cached, and
    `active_decode_blocks` of all prompts in flight.

    What the worker reported `age_seconds` ago: `running` and `waiting` requests and the used share of its
    KV cache, `kv_usage`, 0 to 1. Before the first report these are 0, and the age is infinite.
    """

    index: int
    in_flight: int = 0
    in_flight_prompt_tokens: int = 0
    requests_routed: int = 0
    active_prefill_blocks: int = 0
    active_decode_blocks: int = 0
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    age_seconds: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """A request that needs a worker.

    `block_hashes` has one hash for each full block of `block_size` tokens of the prompt; equal hashes mean
    equal prompts up to the end of that block. A lower `priority` value is more urgent, as in vLLM.
    """

    request_id: str
    num_prompt_tokens: int
    block_hashes: Sequence[Hashable]
    block_size: int
    session_id: str | None = None
    priority: int = 0

    @property
    def num_blocks(self) -> int:
        """Blocks that the prompt fills, a partly filled last one included."""
        return -(-self.num_prompt_tokens // self.block_size)


class FleetView(Protocol):
    """The workers as the router knows them at the time of one decision.

    `workers` and `matched_blocks` may be costly: a policy asks only for what it needs. The size, `slots` and `keys`
    are cheap.
    """

    def __len__(self) -> int:
        """Return how many workers there are."""
        ...

    @property
    def slots(self) -> Sequence[int]:
        """Which worker each index means, ascending: its own for as long as it is in the fleet, whoever else may be chosen."""
        ...

    @property
    def keys(self) -> Sequence[int]:
        """A number for each worker that stands for it in hashes, from 0 to 2^64 - 1."""
        ...

    @property
    def workers(self) -> Sequence[WorkerView]:
        """All workers, by index. They are the router's own: look, do not change."""
        ...

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """Return for each worker how many blocks from the start of the prompt the router takes it to hold."""
        ...


@dataclass(slots=True)
class PolicyMemory:
    """What one policy carries from decision to decision within one run.

    `decisions` counts those made before. `turn` is the slot whose turn it is when workers tie, see
    `understudy.routing.ties`. `notes` is the policy's own. Chance comes from `rng` alone.
    """

    rng: random.Random
    decisions: int = 0
    turn: int = 0
    notes: dict[str, object] = field(default_factory=dict)


class Decision(NamedTuple):
    """The worker that gets a request, and why.

    `matched_blocks` is how many blocks of the prompt the policy expects to be cached there: 0 where it did
    not look. `reason` is one of a few fixed phrases, so that decisions can be counted by it.
    """

    worker: int
    matched_blocks: int
    reason: str


Choose: TypeAlias = Callable[[RoutingRequest, FleetView, PolicyMemory], Decision | int]
"""A policy: returns a decision, or just the index of a worker."""
