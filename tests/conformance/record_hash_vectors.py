"""Record block hashes that vLLM computes: `python -m tests.conformance.record_hash_vectors > hash_vectors.json`.

It needs an environment with vLLM 0.33, as `record_step_logs` does.
"""

import json
import os
import sys
from itertools import product

import vllm
from tests.conformance.random_cases import HASH_ALGORITHMS, Json
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core import kv_cache_utils
from vllm.v1.request import Request

BLOCK_SIZE = 4
TOKEN_IDS = [1, 2, 3, 300, *range(70_000, 70_011)]  # three full blocks and a partial one
LORA = {"name": "poet", "path": "/adapters/poet"}
ITEMS = [
    {"identifier": "image-a", "offset": 1, "length": 2},
    {"identifier": "image-b", "offset": 3, "length": 6},
]
IDENTITIES: list[Json] = [
    {},
    {"salt": "tenant"},
    {"lora": LORA},
    {"items": ITEMS},
    {"lora": LORA, "items": ITEMS, "salt": "tenant"},
]
SEEDS = (None, "0", "random")


def _vector(algorithm: str, seed: str | None, identity: Json) -> Json:
    os.environ.pop("PYTHONHASHSEED", None)
    if seed is not None:
        os.environ["PYTHONHASHSEED"] = seed
    hash_function = get_hash_fn_by_name(algorithm)
    kv_cache_utils.init_none_hash(hash_function)
    lora = identity.get("lora")
    request = Request(
        request_id="request",
        prompt_token_ids=TOKEN_IDS,
        sampling_params=SamplingParams(max_tokens=1),
        pooling_params=None,
        block_hasher=kv_cache_utils.get_request_block_hasher(BLOCK_SIZE, hash_function),
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
    return {
        "algorithm": algorithm,
        "seed": seed,
        "identity": identity,
        "none_hash": kv_cache_utils.NONE_HASH.hex(),
        "block_hashes": [block_hash.hex() for block_hash in request.block_hashes],
        "event_hashes": [
            kv_cache_utils.maybe_convert_block_hash(block_hash) for block_hash in request.block_hashes
        ],
    }


def main() -> None:
    """Write the vectors of every algorithm, seed and identity; xxhash without a seed is random, so it is left out."""
    vectors = [
        _vector(algorithm, seed, identity)
        for algorithm, seed, identity in product(HASH_ALGORITHMS, SEEDS, IDENTITIES)
        if seed is not None or algorithm.startswith("sha256")
    ]
    recording = {
        "vllm": vllm.__version__,
        "block_size": BLOCK_SIZE,
        "token_ids": TOKEN_IDS,
        "vectors": vectors,
    }
    json.dump(recording, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
