"""Promises of comparing hashes: who hashes alike agrees, and who does not is told what would fit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import BlockHasher, BlockStored, CacheIdentity, LoRA, MultiModalItem, event_hash
from understudy.engine.config import HASH_ALGORITHMS, HashAlgorithm
from understudy.engine.hash_chain import HashChain
from understudy.engine.hashing import DEFAULT_HASH_SEED
from understudy.gateway.kv_events import Agreement, HashCheck
from understudy.verify.evidence_files import load_recording
from understudy.wire.kv_blocks import BlockList
from understudy.wire.kv_event_reader import Stored, read_batch
from understudy.wire.kv_events import batch_bytes, event_map

POET = LoRA("poet", "/adapters/poet")
IDENTITIES = st.builds(
    CacheIdentity,
    lora=st.none() | st.just(POET),
    items=st.just(()) | st.just((MultiModalItem("image", 1, 6),)),
    salt=st.none() | st.text(min_size=1, max_size=5),
)


def stored(
    algorithm: HashAlgorithm = "sha256",
    block_size: int = 4,
    seed: str = DEFAULT_HASH_SEED,
    identity: CacheIdentity = CacheIdentity(),  # noqa: B008 - frozen
    num_tokens: int = 8,
) -> Stored:
    """Return the event of a prompt as a worker of these flags publishes it."""
    chain, token_ids = HashChain(), range(100, 100 + num_tokens)
    BlockHasher(algorithm, block_size, seed).extend(chain, token_ids, identity)
    keys = tuple(identity.extra_keys(start, start + block_size) for start in range(0, num_tokens, block_size))
    event = BlockStored(tuple(chain), None, tuple(token_ids), block_size, keys)
    payload = batch_bytes(0.0, [event_map(event, {"poet": 1})])
    read = read_batch(payload, with_tokens=True).events[0]
    assert isinstance(read, Stored)
    return read


def judged(check: HashCheck, *events: Stored) -> Agreement:
    """Return what events tell."""
    for event in events:
        check.look(event)
    return check.state


@given(
    algorithm=st.sampled_from(HASH_ALGORITHMS),
    block_size=st.sampled_from([1, 2, 4, 8]),
    seed=st.none() | st.text(max_size=5),
    identity=IDENTITIES,
)
def test_the_same_flags_agree(
    algorithm: HashAlgorithm, block_size: int, seed: str | None, identity: CacheIdentity
) -> None:
    """Whatever adapter, image or salt the prompt has."""
    check = HashCheck(algorithm, block_size, seed, {"poet": POET}.get)
    event = stored(algorithm, block_size, DEFAULT_HASH_SEED if seed is None else seed, identity)
    assert judged(check, event) is Agreement.AGREES
    assert check.sentence is None


RECORDING = load_recording("kv_events")
ADAPTERS = {
    identity["lora"]["name"]: LoRA(**identity["lora"])
    for identity in RECORDING["identities"]
    if "lora" in identity
}


@pytest.mark.parametrize("scenario", RECORDING["scenarios"])
def test_vllm_itself_agrees(scenario: dict[str, Any]) -> None:
    """Every prompt that the real one published, with its adapters, images and salts; and its algorithm is found."""
    size, seed = scenario["block_size"], RECORDING["hash_seed"]
    roots = [
        event
        for step in scenario["steps"]
        if "payload" in step
        for event in read_batch(bytes.fromhex(step["payload"]), with_tokens=True).events
        if isinstance(event, Stored) and event.parent is None
    ]
    assert roots
    for root in roots:
        assert judged(HashCheck(scenario["algorithm"], size, seed, ADAPTERS.get), root) is Agreement.AGREES
        for other in set(HASH_ALGORITHMS) - {scenario["algorithm"]}:
            check = HashCheck(other, size, seed, ADAPTERS.get)
            assert judged(check, root) is Agreement.DIFFERS
            assert f"--prefix-caching-hash-algo {scenario['algorithm']} would fit" in (check.sentence or "")


@pytest.mark.parametrize("ours", HASH_ALGORITHMS)
@pytest.mark.parametrize("theirs", HASH_ALGORITHMS)
def test_the_algorithm_that_would_fit_is_named(ours: HashAlgorithm, theirs: HashAlgorithm) -> None:
    """With the same seed."""
    check = HashCheck(ours, 4, "7")
    state = judged(check, stored(theirs, seed="7"))
    if ours == theirs:
        assert state is Agreement.AGREES
    else:
        assert state is Agreement.DIFFERS
        assert check.sentence == f"hashes blocks otherwise: --prefix-caching-hash-algo {theirs} would fit"


def test_a_seed_that_the_worker_does_not_have_is_named() -> None:
    """Alone, and together with the algorithm."""
    check = HashCheck("sha256", 4, "7")
    assert judged(check, stored("sha256")) is Agreement.DIFFERS
    assert check.sentence == "hashes blocks otherwise: no --hash-seed would fit"
    check.reset()
    assert judged(check, stored("sha256_cbor")) is Agreement.DIFFERS
    assert (
        check.sentence
        == "hashes blocks otherwise: --prefix-caching-hash-algo sha256_cbor and no --hash-seed would fit"
    )


def test_a_seed_that_only_the_worker_knows_is_asked_for() -> None:
    """No algorithm gives its hashes."""
    check = HashCheck("sha256", 4, None)
    assert judged(check, stored(seed="secret")) is Agreement.DIFFERS
    assert check.sentence is not None
    assert "--hash-seed must be the PYTHONHASHSEED" in check.sentence


def test_the_worker_s_block_size_is_named() -> None:
    """Also where only a list of blocks tells it."""
    by_event, by_list = HashCheck("sha256", 4, None), HashCheck("sha256", 4, None)
    by_event.look(stored(block_size=8, num_tokens=16))
    by_list.look_at_list(BlockList(block_size=8, hash_algo="sha256", ranks=[]))
    assert by_event.differs
    assert by_event.sentence == by_list.sentence == "has blocks of 8 tokens: --block-size 8 would fit"


def test_a_list_tells_the_algorithm() -> None:
    """But nothing for certain where it is the same, for a list has no tokens."""
    check = HashCheck("sha256", 4, None)
    check.look_at_list(BlockList(block_size=4, hash_algo="sha256", ranks=[]))
    assert check.is_pending
    check.look_at_list(BlockList(block_size=4, hash_algo="xxhash", ranks=[]))
    assert check.sentence == "hashes blocks otherwise: --prefix-caching-hash-algo xxhash would fit"


def test_what_tells_nothing_decides_nothing() -> None:
    """Blocks in the middle, without tokens, of an adapter whose path is not known, or with keys of a new kind."""
    check = HashCheck("sha256", 4, None)
    event = stored()
    with_adapter = stored(identity=CacheIdentity(lora=POET))
    for silent in (
        event._replace(parent=1),
        event._replace(token_ids=()),
        event._replace(hashes=()),
        with_adapter,
        with_adapter._replace(extra_keys=()),
        event._replace(extra_keys=[[{"new": 1}]]),
    ):
        assert judged(check, silent) is Agreement.PENDING
    assert judged(check, event) is Agreement.AGREES
    assert judged(check, stored(seed="secret")) is Agreement.AGREES, "one block decides"


def test_hashes_of_tokens_ahead_are_told_apart() -> None:
    """No router knows the tokens that follow."""
    check = HashCheck("sha256", 4, None)
    assert judged(check, stored()._replace(has_lookahead=True)) is Agreement.DIFFERS
    assert check.sentence == "hashes blocks with tokens behind them, which a router cannot know"


def test_embeddings_count() -> None:
    """Their digest is a key that events carry as bytes."""
    check = HashCheck("sha256", 4, None)
    keys = (("prompt_embeds", b"digest"),)
    block = BlockHasher("sha256", 4).hash_block(None, range(100, 104), keys)
    event = stored()._replace(hashes=[event_hash(block)], extra_keys=[[b"digest"]])
    assert judged(check, event) is Agreement.AGREES
