"""Laws of KV events as bytes; what vLLM itself wrote is the measure."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import AllBlocksCleared, BlockRemoved, BlockStored, KVCacheEvent
from understudy.verify.evidence_files import load_recording
from understudy.wire.kv_events import EventMap, batch_bytes, event_map

HASHES = st.binary(min_size=16, max_size=32)
TOKENS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20).map(tuple)


def _recorded_batches() -> list[dict[str, Any]]:
    scenarios = load_recording("kv_events")["scenarios"]
    return [step for scenario in scenarios for step in scenario["steps"] if "payload" in step]


@pytest.mark.parametrize("batch", _recorded_batches())
def test_events_as_vllm_decodes_them_give_the_bytes_that_it_published(batch: dict[str, Any]) -> None:
    """The values are those that vLLM's own decoder read from its own bytes."""
    maps = msgspec.convert(batch["events"], list[EventMap])
    assert batch_bytes(batch["ts"], maps).hex() == batch["payload"]


@given(
    hashes=st.lists(HASHES, min_size=1, max_size=4).map(tuple),
    parent=st.none() | HASHES,
    tokens=TOKENS,
    rank=st.integers(0, 1000),
)
def test_integer_hashes_are_the_tails_of_whole_ones(
    hashes: tuple[bytes, ...], parent: bytes | None, tokens: tuple[int, ...], rank: int
) -> None:
    """Nothing else in a batch depends on how hashes are written."""
    stored = BlockStored(hashes, parent, tokens, len(tokens), (None,) * len(hashes))
    events: list[KVCacheEvent] = [stored, BlockRemoved(hashes[0]), AllBlocksCleared()]
    whole, tails = (
        msgspec.msgpack.decode(
            batch_bytes(1.5, [event_map(event, {}, int_hashes=int_hashes) for event in events], rank)
        )
        for int_hashes in (False, True)
    )
    assert whole[0] == tails[0] == 1.5
    assert whole[2] == tails[2] == rank
    assert whole[1][0]["block_hashes"] == list(hashes)
    assert whole[1][1]["block_hashes"] == [hashes[0]]
    for whole_event, tail_event in zip(whole[1], tails[1], strict=True):
        assert next(iter(whole_event)) == "type"
        assert _with_tails(whole_event) == tail_event


def _with_tails(event: dict[str, Any]) -> dict[str, Any]:
    changed = dict(event)
    if "block_hashes" in event:
        changed["block_hashes"] = [_tail(block_hash) for block_hash in event["block_hashes"]]
    if event.get("parent_block_hash") is not None:
        changed["parent_block_hash"] = _tail(event["parent_block_hash"])
    return changed


def _tail(block_hash: bytes) -> int:
    return int.from_bytes(block_hash, "big") % 2**64


def test_an_adapter_goes_out_with_its_number_and_its_name() -> None:
    """The number is the server's; a prompt without an adapter has neither."""
    keys = (("lora", "poet", "/path"), ("cache_salt", "s"))
    event = BlockStored((b"h" * 32,), None, (1, 2), 2, (keys,))
    written = msgspec.to_builtins(event_map(event, {"poet": 7}))
    assert (written["lora_id"], written["lora_name"]) == (7, "poet")
    assert written["extra_keys"] == [["poet", "s"]]
