"""Laws of reading KV events; what vLLM itself wrote is the measure."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import AllBlocksCleared, BlockRemoved, BlockStored, KVCacheEvent, event_hash
from understudy.verify.evidence_files import load_recording
from understudy.wire.kv_event_reader import Cleared, Event, KVEventError, Removed, Stored, read_batch
from understudy.wire.kv_events import batch_bytes, event_map

HASHES = st.binary(min_size=8, max_size=32)
TOKENS = st.lists(st.integers(0, 2**31 - 1), max_size=20)
STORED = st.builds(
    lambda hashes, parent, tokens: BlockStored(
        tuple(hashes), parent, tuple(tokens), 16, (None,) * len(hashes)
    ),
    st.lists(HASHES, min_size=1, max_size=4),
    st.none() | HASHES,
    TOKENS,
)
EVENTS = st.lists(STORED | st.builds(BlockRemoved, HASHES) | st.just(AllBlocksCleared()), max_size=6)


def _recorded_batches() -> list[dict[str, Any]]:
    scenarios = load_recording("kv_events")["scenarios"]
    return [step for scenario in scenarios for step in scenario["steps"] if "payload" in step]


def _expected(event: dict[str, Any]) -> Event:
    """Return what an event means, from the values that vLLM's own decoder read."""
    if event["type"] == "AllBlocksCleared":
        return Cleared()
    hashes = [_key(each) for each in event["block_hashes"]]
    if event["type"] == "BlockRemoved":
        return Removed(hashes, event["medium"], event.get("group_idx"))
    parent = event["parent_block_hash"]
    return Stored(
        hashes=hashes,
        parent=None if parent is None else _key(parent),
        block_size=event["block_size"],
        medium=event["medium"],
        group=event.get("group_idx"),
        spec_kind=event.get("kv_cache_spec_kind"),
        lora_name=event["lora_name"],
        token_ids=event["token_ids"],
        extra_keys=event.get("extra_keys") or (),
        has_lookahead=False,
    )


def _key(block_hash: int | bytes) -> int:
    return block_hash if isinstance(block_hash, int) else event_hash(block_hash)


@pytest.mark.parametrize("batch", _recorded_batches())
def test_what_vllm_published_is_read_as_vllm_reads_it(batch: dict[str, Any]) -> None:
    """Every field that a router uses; without tokens all else is the same."""
    payload = bytes.fromhex(batch["payload"])
    read = read_batch(payload, with_tokens=True)
    assert list(read.events) == [_expected(event) for event in batch["events"]]
    assert (read.timestamp, read.num_unknown) == (batch["ts"], 0)
    assert read_batch(payload).events == [
        event._replace(token_ids=(), extra_keys=()) if isinstance(event, Stored) else event
        for event in read.events
    ]


@given(events=EVENTS, rank=st.integers(0, 1000), int_hashes=st.booleans())
def test_whole_hashes_and_integers_are_the_same_keys(
    events: list[KVCacheEvent], rank: int, *, int_hashes: bool
) -> None:
    """Those of `event_hash`, which the index is asked for."""
    payload = batch_bytes(1.5, [event_map(event, {}, int_hashes=int_hashes) for event in events], rank)
    batch = read_batch(payload, with_tokens=True)
    assert batch.rank == rank
    for ours, read in zip(events, batch.events, strict=True):
        match ours, read:
            case BlockStored(), Stored():
                assert read.hashes == [event_hash(each) for each in ours.block_hashes]
                parent = ours.parent_block_hash
                assert read.parent == (None if parent is None else event_hash(parent))
                assert tuple(read.token_ids) == ours.token_ids
            case BlockRemoved(), Removed():
                assert read.hashes == [event_hash(ours.block_hash)]
            case _:
                assert isinstance(read, Cleared)


@given(value=st.integers(-(2**63), 2**64 - 1))
def test_an_integer_of_any_sign_is_its_last_64_bits(value: int) -> None:
    """Older versions published signed hashes."""
    payload = msgspec.msgpack.encode([0, [{"type": "BlockRemoved", "block_hashes": [value], "medium": None}]])
    assert read_batch(payload).events == [Removed([value % 2**64], None, None)]


def test_versions_may_leave_out_and_add() -> None:
    """Fields that are missing, fields and kinds of events that are new, batches without a rank or with more behind it."""
    payload = msgspec.msgpack.encode(
        [
            7,
            [
                {"type": "BlockStored", "block_hashes": [1], "flavour": {"sweet": [1]}},
                {"type": "BlockMoved", "block_hashes": [2]},
                {"type": "BlockRemoved", "block_hashes": [3]},
            ],
            None,
            "news",
        ]
    )
    batch = read_batch(payload)
    assert batch == (
        7.0,
        None,
        [Stored([1], None, 0, None, None, None, None, (), (), False), Removed([3], None, None)],
        1,
    )


def test_events_as_arrays_are_read_too() -> None:
    """As versions before 0.33 wrote them, the kind first."""
    payload = msgspec.msgpack.encode(
        [
            7.5,
            [
                ["BlockStored", [1, b"\0" * 7 + b"\2"], None, [5, 6], 1, None, "GPU"],
                ["BlockRemoved", [1], "CPU"],
                ["AllBlocksCleared"],
                ["BlockMoved", 1],
            ],
        ]
    )
    batch = read_batch(payload, with_tokens=True)
    assert batch.events == [
        Stored([1, 2], None, 1, "GPU", None, None, None, [5, 6], (), has_lookahead=False),
        Removed([1], "CPU", None),
        Cleared(),
    ]
    assert batch.num_unknown == 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "block_hashes", "parent_block_hash", "token_ids", "extra_keys", "group_idx"]
            )
            | st.integers(0, 3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(payload=st.binary(max_size=60) | VALUES.map(msgspec.msgpack.encode), with_tokens=st.booleans())
def test_anything_is_a_batch_or_one_error(payload: bytes, *, with_tokens: bool) -> None:
    """Whatever a worker sends, nothing else is raised."""
    _read_or_refuse(payload, with_tokens=with_tokens)


@given(data=st.data(), with_tokens=st.booleans())
def test_a_damaged_batch_is_a_batch_or_one_error(data: st.DataObject, *, with_tokens: bool) -> None:
    """Bytes of what vLLM published, changed, cut or doubled."""
    damaged = bytearray(bytes.fromhex(data.draw(st.sampled_from(_recorded_batches()))["payload"]))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)))):
        damaged[place] = value
    _read_or_refuse(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), with_tokens=with_tokens)
    _read_or_refuse(bytes(damaged + damaged), with_tokens=with_tokens)


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa1a"])
def test_depth_without_end_is_refused(opener: bytes) -> None:
    """Neither a crash nor another error."""
    deep = b"\x92\x01\x91\x83\xa4type\xabBlockStored\xaaextra_keys\x91\x91" + opener * 100_000
    with pytest.raises(KVEventError, match=r"^malformed batch of KV events: "):
        read_batch(deep, with_tokens=True)


def _read_or_refuse(payload: bytes, *, with_tokens: bool) -> None:
    batch = None
    with contextlib.suppress(KVEventError):
        batch = read_batch(payload, with_tokens=with_tokens)
    for event in batch.events if batch else ():
        if not isinstance(event, Cleared):
            assert all(type(each) is int and 0 <= each < 2**64 for each in event.hashes)
