"""Block hashes against those that vLLM computed: every algorithm, seed rule and kind of extra key."""

from typing import Any

from understudy.engine import (
    BlockHasher,
    CacheIdentity,
    LoRA,
    MultiModalItem,
    Request,
    TokenPrompt,
    event_hash,
)
from understudy.engine.hashing import DEFAULT_HASH_SEED
from understudy.verify.evidence_files import load_recording
from understudy.verify.tally import Tallies


def compare_hashes() -> Tallies:
    """Compare the start of each chain, each full block's hash, and the integer that events carry of it."""
    recording = load_recording("hashes")
    tallies = Tallies()
    for vector in recording["vectors"]:
        identity = recording["identities"][vector["identity"]]
        where = (
            f"{vector['algorithm']}, seed {vector['seed']!r}, {vector['block_size']} tokens a block, "
            f"{' + '.join(identity) or 'text'}"
        )
        seed = DEFAULT_HASH_SEED if vector["seed"] is None else vector["seed"]
        hasher = BlockHasher(vector["algorithm"], vector["block_size"], seed)
        prompt = TokenPrompt(recording["token_ids"])
        request = Request("request", prompt, max_tokens=1, identity=cache_identity(identity))
        request.hash_full_blocks(hasher)
        hashes = list(request.block_hashes)
        tallies.compare("block_hashing", f"NONE_HASH, {where}", vector["none_hash"], hasher.none_hash.hex())
        tallies.compare(
            "block_hashing", f"number of hashes, {where}", len(vector["block_hashes"]), len(hashes)
        )
        recorded = zip(vector["block_hashes"], vector["event_hashes"], hashes, strict=False)
        for index, (theirs, their_event, ours) in enumerate(recorded):
            assert isinstance(ours, bytes), "token ids are known"
            tallies.compare("block_hashing", f"block {index}, {where}", theirs, ours.hex())
            tallies.compare(
                "block_hashing", f"event hash of block {index}, {where}", their_event, event_hash(ours)
            )
    return tallies


def cache_identity(identity: dict[str, Any]) -> CacheIdentity:
    """Return what a recording says besides the tokens of a request."""
    lora = identity.get("lora")
    return CacheIdentity(
        lora=LoRA(**lora) if lora else None,
        items=tuple(MultiModalItem(**item) for item in identity.get("items", ())),
        salt=identity.get("salt"),
    )
