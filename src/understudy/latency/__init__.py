"""Latency models: the shape of a step in, its duration out; pure."""

from understudy.latency.linear import LinearLatency
from understudy.latency.shape import LatencyModel, PrefillChunk, StepShape

__all__ = ["LatencyModel", "LinearLatency", "PrefillChunk", "StepShape"]
