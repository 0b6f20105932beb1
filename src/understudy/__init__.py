"""Understudy: a stand-in for vLLM that needs no GPU."""

__version__ = "0.1.0"

VLLM_VERSION = "0.33.0"
"""The vLLM release whose decisions the engine makes."""
