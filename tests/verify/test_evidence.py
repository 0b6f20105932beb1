"""Evidence besides the trials: it is complete, nothing disagrees, and a fault on our side is seen."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import product
from typing import Any

import msgspec
import pytest

from understudy import VLLM_VERSION, catalog
from understudy.catalog import BatchLimits, Gpu, load_model
from understudy.catalog.attention import GroupedQueryAttention, LatentAttention
from understudy.engine import BlockRemoved, CacheIdentity, KVCacheEvent
from understudy.engine.kv_cache import KVCacheManager
from understudy.errors import InputError
from understudy.latency import LinearLatency, StepShape
from understudy.routing import PrefixIndex
from understudy.verify import (
    capacity,
    defaults,
    evidence_files,
    hashing,
    kv_events,
    latency,
    routing,
)
from understudy.verify.evidence_files import load_recording
from understudy.verify.tally import Tallies
from understudy.wire import kv_events as wire_kv_events

SEED = 0

COMPARISONS: dict[str, Callable[[], Tallies]] = {
    "hashing": hashing.compare_hashes,
    "kv_events": kv_events.compare_kv_events,
    "capacity": capacity.compare_capacity,
    "defaults": defaults.compare_defaults,
    "routing": lambda: routing.compare_routing(SEED),
    "latency": lambda: latency.compare_latency(SEED),
}

KEYS = {
    "hashing": {"block_hashing"},
    "kv_events": {"kv_events", "kv_event_bytes"},
    "capacity": {"bytes_per_block", "total_blocks", "context_fit"},
    "defaults": {"default_flags"},
    "routing": {"longest_prefix_routing"},
    "latency": {"prefill_latency", "decode_latency"},
}


def disagreements(tallies: Tallies) -> set[str]:
    """Return the keys under which anything disagrees."""
    return {key for key, tally in tallies.by_key().items() if tally.disagreements}


@pytest.mark.parametrize("name", COMPARISONS)
def test_nothing_disagrees(name: str) -> None:
    """Each has comparisons under each of its behaviours."""
    tallies = COMPARISONS[name]()
    assert tallies.by_key().keys() == KEYS[name]
    assert all(tally.comparisons > 50 for tally in tallies.by_key().values())
    assert not disagreements(tallies), [tally.examples for tally in tallies.by_key().values()]


@pytest.mark.parametrize("seed", range(1, 4))
def test_other_seeds_draw_other_evidence(seed: int) -> None:
    """What is drawn depends on the seed, and agrees for any."""
    for compare in (routing.compare_routing, latency.compare_latency):
        assert not disagreements(compare(seed))
    assert (
        routing._Story(routing._rng(seed, 0), "")._prompts != routing._Story(routing._rng(0, 0), "")._prompts
    )


def test_hashes_are_recorded_of_everything_that_enters_them() -> None:
    """Four algorithms; with seeds and, where vLLM has a fixed one, without; text, salt, LoRA, images, and all at once."""
    recording = load_recording("hashes")
    kinds = {frozenset(identity) for identity in recording["identities"]}
    assert kinds == {
        frozenset(kind) for kind in ((), ("salt",), ("lora",), ("items",), ("lora", "items", "salt"))
    }
    paths = {identity["lora"]["path"] for identity in recording["identities"] if "lora" in identity}
    assert len(paths) == 2
    seen = {(vector["algorithm"], vector["seed"], vector["identity"]) for vector in recording["vectors"]}
    identities = range(len(recording["identities"]))
    assert seen == {
        *product(("sha256", "sha256_cbor", "xxhash", "xxhash_cbor"), ("0", "random", ""), identities),
        *product(("sha256", "sha256_cbor"), (None,), identities),
    }


def test_capacity_is_recorded_of_every_kind() -> None:
    """MHA, GQA and MLA, half-precision and fp8 caches, each at tensor parallel 1, 2, 4 and 8; more heads than GPUs and fewer."""
    seen = {
        (_kind(entry["model"]), case["kv_cache_dtype"], case["tensor_parallel_size"])
        for entry in load_recording("capacity")["models"]
        for case in entry["cases"]
    }
    cache_types = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc")
    assert seen == set(product(("MHA", "GQA", "MLA", "few heads"), cache_types, (1, 2, 4, 8)))


def _kind(model_name: str) -> str:
    attention = load_model(model_name).attention
    if isinstance(attention, LatentAttention):
        return "MLA"
    assert isinstance(attention, GroupedQueryAttention)
    if attention.num_key_value_heads < 8:
        return "few heads"
    return "MHA" if attention.num_key_value_heads == attention.num_heads else "GQA"


def test_every_gpu_of_the_catalogue_has_recorded_defaults() -> None:
    """By the name and memory that the catalogue gives it, in every performance mode, and with refusals among them."""
    entries = load_recording("defaults")["gpus"]
    recorded = {(entry["vllm_device_name"], entry["memory_bytes"]) for entry in entries}
    gpus = [catalog.load_gpu(name) for name in catalog.known_gpus()]
    assert {(gpu.vllm_device_name, gpu.memory_bytes) for gpu in gpus} <= recorded
    for entry in entries:
        modes = {case["flags"].get("performance_mode") for case in entry["limits"]}
        assert modes == {None, "balanced", "interactivity", "throughput"}
    outcomes = [case["limits"] for entry in entries for case in entry["limits"]]
    assert None in outcomes
    assert [8192, 1024] in outcomes


def test_events_are_recorded_of_every_kind() -> None:
    """Stored blocks with each kind of extra key, evictions and resets."""
    recording = load_recording("kv_events")
    steps = [step for scenario in recording["scenarios"] for step in scenario["steps"]]
    events = [event for step in steps for event in step.get("events", ())]
    assert {event["type"] for event in events} == {"BlockStored", "BlockRemoved", "AllBlocksCleared"}
    admitted = {step["identity"] for step in steps if step["operation"] == "admit"}
    assert admitted == set(range(len(recording["identities"])))


def test_a_recording_of_another_vllm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that we stand in for and that of the evidence cannot drift apart."""
    monkeypatch.setattr(evidence_files, "VLLM_VERSION", "0.34.0")
    with pytest.raises(InputError, match=f"hashes is of vLLM {VLLM_VERSION}.* stands in for vLLM 0.34.0"):
        load_recording("hashes")


def test_recordings_are_of_the_version_that_we_stand_in_for() -> None:
    """All files."""
    for file in (files("understudy.verify") / "evidence").iterdir():
        if file.name.endswith(".json"):
            assert json.loads(file.read_bytes())["vllm"] == VLLM_VERSION


def _salt_on_every_block(patch: pytest.MonkeyPatch) -> None:
    original = CacheIdentity.extra_keys

    def extra_keys(self: CacheIdentity, start: int, end: int) -> Any:
        keys = original(self, start, end)
        return (*(keys or ()), ("cache_salt", self.salt)) if self.salt and start else keys

    patch.setattr(CacheIdentity, "extra_keys", extra_keys)


def _offsets_from_the_prompt(patch: pytest.MonkeyPatch) -> None:
    original = CacheIdentity.extra_keys

    def extra_keys(self: CacheIdentity, start: int, end: int) -> Any:
        keys: Any = original(self, start, end)
        return keys and tuple(
            (tag, name, x + start) if tag == "mm" else (tag, name, x) for tag, name, x in _threes(keys)
        )

    patch.setattr(CacheIdentity, "extra_keys", extra_keys)


def _threes(keys: Any) -> list[tuple[Any, Any, Any]]:
    return [(*key, None)[:3] for key in keys]


def _first_eight_bytes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hashing, "event_hash", lambda block_hash: int.from_bytes(block_hash[:8], "big"))


def _tagged_keys_in_events(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wire_kv_events, "_untagged", lambda keys: keys and [list(key) for key in keys])


def _removals_last(patch: pytest.MonkeyPatch) -> None:
    original = KVCacheManager.take_events

    def take_events(self: KVCacheManager) -> list[KVCacheEvent]:
        return sorted(original(self), key=lambda event: isinstance(event, BlockRemoved))

    patch.setattr(KVCacheManager, "take_events", take_events)


def _plain_dicts(patch: pytest.MonkeyPatch) -> None:
    original = wire_kv_events.event_map
    patch.setattr(
        kv_events, "event_map", lambda event, lora_ids: msgspec.to_builtins(original(event, lora_ids))
    )


def _half_a_head(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        GroupedQueryAttention,
        "cached_values_per_token",
        lambda self, size: self.num_key_value_heads * 2 * self.head_dim // size,
    )


def _latents_split(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        LatentAttention,
        "cached_values_per_token",
        lambda self, size: (self.kv_rank + self.rope_head_dim) // size,
    )


def _one_block_too_many(patch: pytest.MonkeyPatch) -> None:
    original = catalog.capacity

    def one_more(*arguments: Any, **named: Any) -> Any:
        memory = original(*arguments, **named)
        return replace(memory, num_gpu_blocks=memory.num_gpu_blocks + 1)

    patch.setattr(capacity, "capacity", one_more)


def _null_block_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = catalog.check_context_fits
    patch.setattr(
        capacity, "check_context_fits", lambda blocks, size, length: original(blocks + 1, size, length)
    )


def _a100_not_excluded(patch: pytest.MonkeyPatch) -> None:
    original = catalog.default_batch_limits

    def limits(gpu: Gpu, **flags: Any) -> BatchLimits:
        return original(replace(gpu, vllm_device_name="NVIDIA"), **flags)

    patch.setattr(defaults, "default_batch_limits", limits)


def _throughput_not_doubled(patch: pytest.MonkeyPatch) -> None:
    original = catalog.default_batch_limits

    def limits(gpu: Gpu, **flags: Any) -> BatchLimits:
        return original(gpu, **flags | {"performance_mode": "balanced"})

    patch.setattr(defaults, "default_batch_limits", limits)


def _copies_not_counted(patch: pytest.MonkeyPatch) -> None:
    original = PrefixIndex.stored

    def stored(self: PrefixIndex, worker: int, hashes: Sequence[Any]) -> None:
        held = self.longest_prefixes
        original(self, worker, [block for block in hashes if not held([block])[worker]])

    patch.setattr(PrefixIndex, "stored", stored)


def _one_block_too_deep(patch: pytest.MonkeyPatch) -> None:
    original = PrefixIndex.longest_prefixes
    patch.setattr(
        PrefixIndex,
        "longest_prefixes",
        lambda self, hashes: [min(depth + 1, len(hashes)) for depth in original(self, hashes)],
    )


def _base_for_every_chunk(patch: pytest.MonkeyPatch) -> None:
    original = LinearLatency._chunk_ns
    patch.setattr(
        LinearLatency,
        "_chunk_ns",
        lambda self, chunk: original(self, chunk._replace(cached_tokens=chunk.context_tokens)),
    )


def _a_price_for_each_sequence(patch: pytest.MonkeyPatch) -> None:
    original = LinearLatency.step_ns

    def step_ns(self: LinearLatency, shape: StepShape) -> int:
        return original(self, shape) * max(1, shape.num_decodes)

    patch.setattr(LinearLatency, "step_ns", step_ns)


FAULTS: list[tuple[str, Callable[[pytest.MonkeyPatch], None], set[str]]] = [
    ("hashing", _salt_on_every_block, {"block_hashing"}),
    ("hashing", _offsets_from_the_prompt, {"block_hashing"}),
    ("hashing", _first_eight_bytes, {"block_hashing"}),
    ("kv_events", _tagged_keys_in_events, {"kv_events", "kv_event_bytes"}),
    ("kv_events", _removals_last, {"kv_events", "kv_event_bytes"}),
    ("capacity", _half_a_head, {"bytes_per_block", "total_blocks"}),
    ("capacity", _latents_split, {"bytes_per_block", "total_blocks"}),
    ("capacity", _one_block_too_many, {"total_blocks"}),
    ("capacity", _null_block_forgotten, {"context_fit"}),
    ("defaults", _a100_not_excluded, {"default_flags"}),
    ("defaults", _throughput_not_doubled, {"default_flags"}),
    ("routing", _copies_not_counted, {"longest_prefix_routing"}),
    ("routing", _one_block_too_deep, {"longest_prefix_routing"}),
    ("latency", _base_for_every_chunk, {"prefill_latency"}),
    ("latency", _a_price_for_each_sequence, {"decode_latency"}),
]


@pytest.mark.parametrize(("name", "fault", "keys"), FAULTS, ids=[fault.__name__ for _, fault, _ in FAULTS])
def test_a_fault_is_seen(
    name: str,
    fault: Callable[[pytest.MonkeyPatch], None],
    keys: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under the behaviours that it breaks, and no others."""
    fault(monkeypatch)
    assert disagreements(COMPARISONS[name]()) == keys


def test_bytes_are_compared_beyond_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map with the same entries but another header means the same to a decoder, and yet the bytes differ."""
    _plain_dicts(monkeypatch)
    assert disagreements(kv_events.compare_kv_events()) == {"kv_event_bytes"}
