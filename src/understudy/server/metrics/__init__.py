"""The page at /metrics: every series as vLLM 0.33 exposes it, and a few of our own behind them."""

from understudy.server.metrics.buckets import BUCKET_FAMILIES, check_custom_buckets
from understudy.server.metrics.cache_config import cache_config_labels
from understudy.server.metrics.engine_metrics import EngineMetrics, FinishedStats
from understudy.server.metrics.server_metrics import (
    PAGE_CONTENT_TYPE,
    ServerMetrics,
    creates_series_of_creation,
)
from understudy.server.metrics.vllm_families import FINISH_REASONS, REJECTION_REASONS

__all__ = [
    "BUCKET_FAMILIES",
    "FINISH_REASONS",
    "PAGE_CONTENT_TYPE",
    "REJECTION_REASONS",
    "EngineMetrics",
    "FinishedStats",
    "ServerMetrics",
    "cache_config_labels",
    "check_custom_buckets",
    "creates_series_of_creation",
]
