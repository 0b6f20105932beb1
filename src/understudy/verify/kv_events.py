"""KV events against what vLLM published: the values that its decoder reads, and the bytes."""

from typing import Any

import msgspec

from understudy.engine import BlockHasher, EngineConfig, Request, TokenPrompt
from understudy.engine.kv_cache import KVCacheManager
from understudy.verify.evidence_files import load_recording
from understudy.verify.hashing import cache_identity
from understudy.verify.tally import Tallies
from understudy.wire.kv_events import EventMap, batch_bytes, event_map

_NOTHING: dict[str, Any] = {"ts": 0.0, "payload": "", "events": []}
"""What a step has in which vLLM published no batch."""


def compare_kv_events() -> Tallies:
    """Repeat each recorded scenario with our KVCacheManager and compare every batch of events."""
    recording = load_recording("kv_events")
    tallies = Tallies()
    for scenario in recording["scenarios"]:
        _Scenario(recording, scenario).compare(tallies)
    return tallies


class _Scenario:
    def __init__(self, recording: dict[str, Any], scenario: dict[str, Any]) -> None:
        size, num_blocks = scenario["block_size"], scenario["num_blocks"]
        config = EngineConfig(
            num_gpu_blocks=num_blocks,
            max_model_len=num_blocks * size,
            block_size=size,
            prefix_caching_hash_algo=scenario["algorithm"],
        )
        self._steps = scenario["steps"]
        self._identities = recording["identities"]
        self._lora_ids = recording["lora_ids"]
        self._name = f"{scenario['algorithm']}, {size} tokens a block"
        self._hasher = BlockHasher(scenario["algorithm"], size, recording["hash_seed"])
        self._cache = KVCacheManager(config, self._hasher, record_events=True)
        self._requests: dict[str, Request] = {}

    def compare(self, tallies: Tallies) -> None:
        for number, step in enumerate(self._steps):
            self._perform(step)
            theirs = _NOTHING | step
            ours = [event_map(event, self._lora_ids) for event in self._cache.take_events()]
            where = f"step {number}, {self._name}"
            tallies.compare("kv_events", f"number of events, {where}", len(theirs["events"]), len(ours))
            for their_event, our_event in zip(theirs["events"], ours, strict=False):
                tallies.compare("kv_events", where, _said(their_event), _said(_plain(our_event)))
            payload = batch_bytes(theirs["ts"], ours).hex() if ours else ""
            if payload or theirs["payload"]:
                tallies.compare("kv_event_bytes", where, theirs["payload"], payload)

    def _perform(self, step: dict[str, Any]) -> None:
        match step["operation"]:
            case "admit":
                request = Request(
                    step["request"],
                    TokenPrompt(step["prompt"]),
                    max_tokens=1,
                    identity=cache_identity(self._identities[step["identity"]]),
                )
                request.hash_full_blocks(self._hasher)
                prefix = self._cache.cached_prefix(request)
                self._requests[request.request_id] = request
                self._cache.admit(
                    request, prefix, request.num_tokens - prefix.num_tokens, others_running=False
                )
            case "free":
                self._cache.free(self._requests[step["request"]])
            case _:
                self._cache.reset()


def _plain(event: EventMap) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    return plain


def _said(event: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that hold anything: to a decoder an absent field is None."""
    return {name: value for name, value in event.items() if value is not None}
