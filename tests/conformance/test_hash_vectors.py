"""Block hashes as vLLM computes them: every algorithm, seed and kind of extra key."""

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.engine import BlockHasher, CacheIdentity, HashChain, LoRA, MultiModalItem, event_hash
from understudy.engine.hashing import DEFAULT_HASH_SEED

RECORDING = json.loads((Path(__file__).parent / "hash_vectors.json").read_text(encoding="utf-8"))
"""Computed by vLLM 0.33.0; `record_hash_vectors.py` says how."""


def _name(vector: dict[str, Any]) -> str:
    return f"{vector['algorithm']}-{vector['seed']}-{'+'.join(vector['identity']) or 'text'}"


def _identity(identity: dict[str, Any]) -> CacheIdentity:
    lora = identity.get("lora")
    return CacheIdentity(
        lora=LoRA(**lora) if lora else None,
        items=tuple(MultiModalItem(**item) for item in identity.get("items", ())),
        salt=identity.get("salt"),
    )


@pytest.mark.parametrize("vector", RECORDING["vectors"], ids=_name)
def test_hashes_equal_those_of_vllm(vector: dict[str, Any]) -> None:
    """The start of the chain, the hash of each full block, and the integer that events carry."""
    seed = DEFAULT_HASH_SEED if vector["seed"] is None else vector["seed"]
    hasher = BlockHasher(vector["algorithm"], RECORDING["block_size"], seed)
    assert hasher.none_hash.hex() == vector["none_hash"]
    hashes = HashChain()
    hasher.extend(hashes, RECORDING["token_ids"], _identity(vector["identity"]))
    assert list(hashes) == [bytes.fromhex(block_hash) for block_hash in vector["block_hashes"]]
    assert [event_hash(block_hash) for block_hash in hashes] == vector["event_hashes"]


def test_vectors_are_complete() -> None:
    """Four algorithms, with a seed and, where vLLM has a fixed one, without; text, salt, LoRA, images, and all at once."""
    assert RECORDING["vllm"] == "0.33.0"
    names = {_name(vector) for vector in RECORDING["vectors"]}
    identities = ("text", "salt", "lora", "items", "lora+items+salt")
    cases = [(algorithm, "0") for algorithm in ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")]
    cases += [("sha256", "None"), ("sha256_cbor", "None")]
    assert {f"{algorithm}-{seed}-{kind}" for algorithm, seed in cases for kind in identities} <= names
