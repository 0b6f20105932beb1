"""Reads the KV events that a vLLM worker publishes: the bytes of one batch in, typed events out.

Tolerant where versions of vLLM differ: events as maps (0.33) or as arrays (older), fields that are new or left out, kinds of
events that nobody knows yet, hashes as integers of any sign or as whole bytes. What is no batch raises KVEventError and nothing
else. Block hashes come out as the unsigned 64-bit integers of `event_hash`. (vllm/distributed/kv_events.py, 0.33.0)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from understudy.engine import event_hash
from understudy.errors import InputError

_UINT64_END = 1 << 64


class KVEventError(InputError):
    """What a worker sent is no batch of KV events."""


class Stored(NamedTuple):
    """Full blocks entered a cache.

    `medium` and `group` say which cache, None where the worker does not say; `spec_kind` what kind of attention the group
    serves. `lora_name` is None without an adapter. `token_ids` and `extra_keys`, an entry a block, are empty where the
    reader was not asked for them; `has_lookahead` tells that hashes cover tokens behind their blocks.
    """

    hashes: Sequence[int]
    parent: int | None
    block_size: int
    medium: str | None
    group: int | None
    spec_kind: str | None
    lora_name: str | None
    token_ids: Sequence[int]
    extra_keys: Sequence[Sequence[Any] | None]
    has_lookahead: bool


class Removed(NamedTuple):
    """One copy of each of these blocks left a cache."""

    hashes: Sequence[int]
    medium: str | None
    group: int | None


class Cleared(NamedTuple):
    """All blocks are gone."""


Event: TypeAlias = Stored | Removed | Cleared


class Batch(NamedTuple):
    """What happened in a step of one data-parallel rank up to `timestamp`, in seconds since 1970.

    `num_unknown` counts events of kinds that are not known here; they are not among `events`.
    """

    timestamp: float
    rank: int | None
    events: Sequence[Event]
    num_unknown: int


_ExternalHash: TypeAlias = int | bytes


class _AnyEvent(msgspec.Struct, gc=False):
    """The fields of all kinds of events, for a kind may be unknown. Those that nobody asks for are passed over unread."""

    type: str
    block_hashes: list[_ExternalHash] = []
    parent_block_hash: _ExternalHash | None = None
    block_size: int = 0
    medium: str | None = None
    lora_name: str | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class _FullEvent(_AnyEvent):
    token_ids: list[int] = []
    extra_keys: list[list[Any] | None] | None = None
    lookahead_token_ids: list[list[int]] | None = None


class _Batch(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[_AnyEvent | list[Any]]
    data_parallel_rank: int | None = None


class _FullBatch(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[_FullEvent | list[Any]]
    data_parallel_rank: int | None = None


_ARRAY_FIELDS = {
    "BlockStored": (
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
        "kv_cache_spec_kind",
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx"),
}
"""What stands where behind the kind in events that are arrays."""

_decode: Callable[[bytes], _Batch] = msgspec.msgpack.Decoder(_Batch).decode
_decode_full: Callable[[bytes], _FullBatch] = msgspec.msgpack.Decoder(_FullBatch).decode


def read_batch(payload: bytes, *, with_tokens: bool = False) -> Batch:
    """Return the batch in the payload of a message; raises KVEventError.

    `with_tokens`: with token ids and extra keys, which cost the most to read and which nothing but a check of hashes needs.
    """
    try:
        batch = _decode_full(payload) if with_tokens else _decode(payload)
        events: list[Event] = []
        num_unknown = 0
        for raw in batch.events:
            event = _event(raw if isinstance(raw, _AnyEvent) else _of_array(raw))
            if event is None:
                num_unknown += 1
            else:
                events.append(event)
        return Batch(batch.ts, batch.data_parallel_rank, events, num_unknown)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise KVEventError(f"malformed batch of KV events: {' '.join(str(error).split())}") from None


def _of_array(values: list[Any]) -> _FullEvent:
    if not values or not isinstance(values[0], str):
        raise ValueError("an event that is an array begins with its kind")
    fields = dict(zip(_ARRAY_FIELDS.get(values[0], ()), values[1:], strict=False))
    return msgspec.convert({"type": values[0], **fields}, _FullEvent)


def _event(raw: _AnyEvent) -> Event | None:
    if raw.type == "BlockRemoved":
        return Removed(_keys(raw.block_hashes), raw.medium, raw.group_idx)
    if raw.type == "BlockStored":
        parent = raw.parent_block_hash
        full = raw if isinstance(raw, _FullEvent) else None
        return Stored(
            hashes=_keys(raw.block_hashes),
            parent=None if parent is None else _key(parent),
            block_size=raw.block_size,
            medium=raw.medium,
            group=raw.group_idx,
            spec_kind=raw.kv_cache_spec_kind,
            lora_name=raw.lora_name,
            token_ids=full.token_ids if full else (),
            extra_keys=full.extra_keys or () if full else (),
            has_lookahead=full is not None and full.lookahead_token_ids is not None,
        )
    return Cleared() if raw.type == "AllBlocksCleared" else None


def _keys(hashes: Sequence[_ExternalHash]) -> list[int]:
    return [each if type(each) is int and 0 <= each < _UINT64_END else event_hash(each) for each in hashes]


def _key(external: _ExternalHash) -> int:
    return event_hash(external)
