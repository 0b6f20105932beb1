"""Text to token ids, offline: a stand-in where a workload gives text and no real tokenizer is at hand."""

from understudy.tokenize.words import VOCABULARY_SIZE, encode

__all__ = ["VOCABULARY_SIZE", "encode"]
