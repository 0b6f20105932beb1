"""What vLLM publishes as KV events: run by vLLM's Python, prints `evidence/kv_events.json`.

Knows vLLM and nothing of understudy. vLLM's KVCacheManager admits and frees requests that share prefixes, with salts,
LoRA adapters and images, in a pool that is too small for all of them; its ZmqEventPublisher sends what happened.
Kept are the bytes sent and what vLLM's own decoder reads in them.
"""

import json
import random
import sys
import time
from typing import Any

import msgspec
import torch
import vllm
from vllm.distributed.kv_events import KVEventBatch, ZmqEventPublisher
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

ALGORITHMS = ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")
BLOCK_SIZES = (4, 16)
NUM_BLOCKS = 24
NUM_REQUESTS = 12
LORA_IDS = {"poet": 1, "lawyer": 2}
ITEMS = [
    {"identifier": "image-a", "offset": 1, "length": 2},
    {"identifier": "image-b", "offset": 3, "length": 6},
]
IDENTITIES: list[dict[str, Any]] = [
    {},
    {"salt": "tenant"},
    {"lora": {"name": "poet", "path": "/adapters/poet"}},
    {"lora": {"name": "lawyer", "path": "/adapters/lawyer"}, "salt": "tenant"},
    {"items": ITEMS},
    {"items": ITEMS, "lora": {"name": "poet", "path": "/adapters/poet"}},
]


class _Wire:
    """vLLM's publisher, whose replay buffer keeps the bytes that it sends, and vLLM's decoder."""

    def __init__(self) -> None:
        self._publisher = ZmqEventPublisher(data_parallel_rank=0, endpoint="inproc://kv-events")
        self._decoder = msgspec.msgpack.Decoder(KVEventBatch)
        self._num_sent = 0

    def payload(self, batch: KVEventBatch) -> bytes:
        """Return the last frame of the message that this batch becomes."""
        self._publisher.publish(batch)
        buffer = self._publisher._buffer  # noqa: SLF001 - saves a subscriber and a socket
        while len(buffer) == self._num_sent:
            time.sleep(0.001)
        sequence_number, payload = buffer[-1]
        assert sequence_number == self._num_sent
        self._num_sent += 1
        return bytes(payload)

    def decoded(self, payload: bytes) -> list[dict[str, Any]]:
        """Return every field of every event as vLLM's decoder reads it."""
        batch = self._decoder.decode(payload)
        return [
            {"type": type(event).__name__, **{name: getattr(event, name) for name in event.__struct_fields__}}
            for event in batch.events
        ]

    def close(self) -> None:
        """End the publisher's thread."""
        self._publisher.shutdown()


def _request(
    number: int, prompt: list[int], identity: dict[str, Any], block_size: int, hash_function: Any
) -> Request:
    lora = identity.get("lora")
    return Request(
        request_id=str(number),
        prompt_token_ids=prompt,
        sampling_params=SamplingParams(max_tokens=1),
        pooling_params=None,
        block_hasher=get_request_block_hasher(block_size, hash_function),
        cache_salt=identity.get("salt"),
        lora_request=lora
        and LoRARequest(lora_name=lora["name"], lora_int_id=LORA_IDS[lora["name"]], lora_path=lora["path"]),
        mm_features=[
            MultiModalFeatureSpec(
                data=None,
                modality="image",
                identifier=item["identifier"],
                mm_position=PlaceholderRange(offset=item["offset"], length=item["length"]),
            )
            for item in identity.get("items", ())
        ],
    )


def _manager(block_size: int) -> KVCacheManager:
    spec = FullAttentionSpec(block_size=block_size, num_kv_heads=1, head_size=64, dtype=torch.float16)
    return KVCacheManager(
        KVCacheConfig(
            num_blocks=NUM_BLOCKS, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
        ),
        max_model_len=NUM_BLOCKS * block_size,
        scheduler_block_size=block_size,
        hash_block_size=block_size,
        enable_kv_cache_events=True,
    )


def _admit(manager: KVCacheManager, request: Request) -> bool:
    """Give a request its cached prefix and room for the rest of its prompt, if all of it fits."""
    blocks, num_hits, _ = manager.get_computed_blocks(request)
    allocated = manager.allocate_slots(
        request,
        request.num_tokens - num_hits,
        num_new_computed_tokens=num_hits,
        new_computed_blocks=blocks,
        full_sequence_must_fit=True,
    )
    return allocated is not None


def _scenario(algorithm: str, block_size: int, wire: _Wire) -> dict[str, Any]:
    """Admit one request after the other, freeing the oldest while there is no room, then reset the cache."""
    rng = random.Random(f"{algorithm} {block_size}")
    hash_function = get_hash_fn_by_name(algorithm)
    init_none_hash(hash_function)
    manager = _manager(block_size)
    stems = [rng.choices(range(130_000), k=6 * block_size) for _ in range(2)]
    running: list[Request] = []
    steps: list[dict[str, Any]] = []

    def note(**operation: object) -> None:
        events = manager.take_events()
        step: dict[str, Any] = dict(operation)
        if events:
            timestamp = 1_700_000_000.25 + len(steps)
            payload = wire.payload(KVEventBatch(ts=timestamp, events=events))
            step |= {"ts": timestamp, "payload": payload.hex(), "events": wire.decoded(payload)}
        steps.append(step)

    for number in range(NUM_REQUESTS):
        stem = rng.choice(stems)[: rng.randint(1, 6 * block_size)]
        prompt = stem + rng.choices(range(130_000), k=rng.randint(1, 4 * block_size))
        identity = rng.randrange(len(IDENTITIES))
        request = _request(number, prompt, IDENTITIES[identity], block_size, hash_function)
        while not _admit(manager, request):
            oldest = running.pop(0)
            manager.free(oldest)
            note(operation="free", request=oldest.request_id)
        running.append(request)
        note(operation="admit", request=request.request_id, prompt=prompt, identity=identity)
    for request in running:
        manager.free(request)
        note(operation="free", request=request.request_id)
    assert manager.reset_prefix_cache()
    note(operation="reset")
    return {"algorithm": algorithm, "block_size": block_size, "num_blocks": NUM_BLOCKS, "steps": steps}


def main() -> None:
    """Print a scenario for each algorithm and block size; the chain of hashes starts from PYTHONHASHSEED=0."""
    wire = _Wire()
    recording = {
        "vllm": vllm.__version__,
        "hash_seed": "0",
        "lora_ids": LORA_IDS,
        "identities": IDENTITIES,
        "scenarios": [
            _scenario(algorithm, block_size, wire) for algorithm in ALGORITHMS for block_size in BLOCK_SIZES
        ],
    }
    wire.close()
    json.dump(recording, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
