"""What a router hears of its workers' KV caches: subscribes to their events, and keeps what they hold up to date."""

from understudy.gateway.kv_events.hash_check import Agreement, HashCheck
from understudy.gateway.kv_events.subscriber import (
    MAX_BATCH_BYTES,
    EventFigures,
    EventSubscriber,
    event_context,
)
from understudy.gateway.kv_events.worker_blocks import BlockSink

__all__ = [
    "MAX_BATCH_BYTES",
    "Agreement",
    "BlockSink",
    "EventFigures",
    "EventSubscriber",
    "HashCheck",
    "event_context",
]
