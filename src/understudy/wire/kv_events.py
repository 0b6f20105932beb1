"""Writes our KV events as the bytes that vLLM publishes: msgpack, an array a batch, a map an event.

Fields and their order are those of vllm/distributed/kv_events.py, 0.33.0, for one group of full-attention layers.
It knows no socket, and no clock: the caller gives the time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from understudy.engine import BlockHash, BlockRemoved, BlockStored, KVCacheEvent, event_hash

ExternalHash: TypeAlias = int | bytes
"""A block hash as events carry it: an unsigned 64-bit integer, or the whole hash where integers are turned off."""

_MEDIUM = "GPU"
_GROUP = 0
_SPEC_KIND = "full_attention"


class StoredMap(msgspec.Struct, tag="BlockStored", omit_defaults=True):
    """BlockStored on the wire. The first seven fields are always there, the others only where they say something.

    The last five never do here, but their number decides the form of the map's header.
    """

    block_hashes: list[ExternalHash]
    parent_block_hash: ExternalHash | None
    token_ids: tuple[int, ...]
    block_size: int
    lora_id: int | None
    medium: str
    lora_name: str | None
    extra_keys: list[list[Any] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: None = None
    locality: None = None
    ownership: None = None
    session_id: None = None
    lookahead_token_ids: None = None


class RemovedMap(msgspec.Struct, tag="BlockRemoved", omit_defaults=True):
    """BlockRemoved on the wire."""

    block_hashes: list[ExternalHash]
    medium: str
    group_idx: int | None = None
    locality: None = None
    ownership: None = None


class ClearedMap(msgspec.Struct, tag="AllBlocksCleared"):
    """AllBlocksCleared on the wire."""


EventMap = StoredMap | RemovedMap | ClearedMap


def event_map(event: KVCacheEvent, lora_ids: Mapping[str, int], *, int_hashes: bool = True) -> EventMap:
    """Return an event in vLLM's fields; `lora_ids` has the number that the server gave to each adapter.

    With `int_hashes` False hashes that are bytes go out whole, as under VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0.
    """
    match event:
        case BlockStored():
            lora_name = _lora_name(event)
            parent = event.parent_block_hash
            return StoredMap(
                block_hashes=[
                    _external(block_hash, int_hashes=int_hashes) for block_hash in event.block_hashes
                ],
                parent_block_hash=None if parent is None else _external(parent, int_hashes=int_hashes),
                token_ids=event.token_ids,
                block_size=event.block_size,
                lora_id=None if lora_name is None else lora_ids[lora_name],
                medium=_MEDIUM,
                lora_name=lora_name,
                extra_keys=[_untagged(keys) for keys in event.extra_keys],
                group_idx=_GROUP,
                kv_cache_spec_kind=_SPEC_KIND,
            )
        case BlockRemoved(block_hash=block_hash):
            return RemovedMap([_external(block_hash, int_hashes=int_hashes)], _MEDIUM, group_idx=_GROUP)
        case _:
            return ClearedMap()


def batch_bytes(timestamp: float, events: Sequence[EventMap], data_parallel_rank: int = 0) -> bytes:
    """Return the payload of one message; `timestamp` in seconds."""
    return msgspec.msgpack.encode([timestamp, events, data_parallel_rank])


def _external(block_hash: BlockHash, *, int_hashes: bool) -> ExternalHash:
    return event_hash(block_hash) if int_hashes or isinstance(block_hash, int) else block_hash


def _lora_name(event: BlockStored) -> str | None:
    first_block: Any = event.extra_keys[0] or ()
    return next((name for tag, name, *_ in first_block if tag == "lora"), None)


def _untagged(keys: Any) -> list[Any] | None:
    """Return a block's extra keys as events carry them: an adapter's name, a salt, an item's identifier and offset."""
    return keys and [key[1:] if key[0] == "mm" else key[1] for key in keys]
