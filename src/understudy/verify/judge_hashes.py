"""What vLLM computes as block hashes: run by vLLM's Python, prints `evidence/hashes.json`.

Knows vLLM and nothing of understudy. Covers every algorithm and seed rule, each kind of extra key alone and
all of them together; xxhash without a seed is random in vLLM, so it is left out.
"""

import json
import os
import random
import sys
from itertools import product
from typing import Any

import vllm
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core import kv_cache_utils
from vllm.v1.request import Request

ALGORITHMS = ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")
SEEDS = (None, "0", "random", "")
BLOCK_SIZES = (4, 16)
TOKEN_IDS = [1, 2, 3, 300, *random.Random(0).choices(range(130_000), k=32), 0]
LORA = {"name": "poet", "path": "/adapters/poet"}
ITEMS = [
    {"identifier": "image-a", "offset": 1, "length": 2},
    {"identifier": "image-b", "offset": 3, "length": 6},
    {"identifier": "image-a", "offset": 20, "length": 12},
]
IDENTITIES: list[dict[str, Any]] = [
    {},
    {"salt": "tenant"},
    {"lora": LORA},
    {"lora": {"name": "poet", "path": "/adapters/another-poet"}},
    {"items": ITEMS},
    {"lora": LORA, "items": ITEMS, "salt": "tenant"},
]


def _request(identity: dict[str, Any], block_size: int, hash_function: Any) -> Request:
    lora = identity.get("lora")
    return Request(
        request_id="request",
        prompt_token_ids=TOKEN_IDS,
        sampling_params=SamplingParams(max_tokens=1),
        pooling_params=None,
        block_hasher=kv_cache_utils.get_request_block_hasher(block_size, hash_function),
        cache_salt=identity.get("salt"),
        lora_request=lora and LoRARequest(lora_name=lora["name"], lora_int_id=1, lora_path=lora["path"]),
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


def _vector(
    algorithm: str, seed: str | None, block_size: int, identity_index: int, identity: dict[str, Any]
) -> dict[str, Any]:
    os.environ.pop("PYTHONHASHSEED", None)
    if seed is not None:
        os.environ["PYTHONHASHSEED"] = seed
    hash_function = get_hash_fn_by_name(algorithm)
    kv_cache_utils.init_none_hash(hash_function)
    hashes = _request(identity, block_size, hash_function).block_hashes
    return {
        "algorithm": algorithm,
        "seed": seed,
        "block_size": block_size,
        "identity": identity_index,
        "none_hash": kv_cache_utils.NONE_HASH.hex(),
        "block_hashes": [block_hash.hex() for block_hash in hashes],
        "event_hashes": [kv_cache_utils.maybe_convert_block_hash(block_hash) for block_hash in hashes],
    }


def main() -> None:
    """Print every combination."""
    cases = product(ALGORITHMS, SEEDS, BLOCK_SIZES, enumerate(IDENTITIES))
    recording = {
        "vllm": vllm.__version__,
        "token_ids": TOKEN_IDS,
        "identities": IDENTITIES,
        "vectors": [
            _vector(algorithm, seed, block_size, index, identity)
            for algorithm, seed, block_size, (index, identity) in cases
            if seed is not None or algorithm.startswith("sha256")
        ],
    }
    json.dump(recording, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
