"""Hugging Face configs to write to disk."""

import json
from collections.abc import Mapping
from pathlib import Path

LLAMA: Mapping[str, object] = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
"""Small enough to count by hand."""

LLAMA_PARAMETERS = 2 * 100 * 64 + 2 * (64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
"""Embedding and output; in each layer queries, keys and values, output, three matrices, two norms; the last norm."""


def write_config(folder: Path, config: Mapping[str, object]) -> Path:
    """Write a config.json and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
