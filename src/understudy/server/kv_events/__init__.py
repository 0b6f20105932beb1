"""Publishes KV events over ZeroMQ as a vLLM engine does, and replays what a subscriber has missed."""

from understudy.server.kv_events.config import (
    KVEventsConfig,
    read_kv_events_config,
    uses_int_block_hashes,
)
from understudy.server.kv_events.publisher import (
    Deliver,
    KVEventPublisher,
    kv_event_sources,
    open_publisher,
)

__all__ = [
    "Deliver",
    "KVEventPublisher",
    "KVEventsConfig",
    "kv_event_sources",
    "open_publisher",
    "read_kv_events_config",
    "uses_int_block_hashes",
]
