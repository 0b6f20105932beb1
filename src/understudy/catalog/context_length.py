"""How many tokens a model's context holds, as vLLM reads it from a config.

The rules are those of vLLM 0.33 (`_get_and_verify_max_len`): factors of RoPE scaling count, except where
max_position_embeddings holds them already.
"""

from collections.abc import Sequence

from understudy.catalog.fields import LARGEST_WHOLE, Fields

_ALREADY_SCALED = {"deepseek_llama_scaling", "deepseek_yarn", "llama3", "longrope", "su", "yarn"}
_WITH_TWO_TABLES = {"longrope", "su"}


def longest_context(config: Fields) -> int:
    """Return the most tokens that vLLM lets a user ask for without VLLM_ALLOW_LONG_MAX_MODEL_LEN."""
    key = config.present("model_max_length") or "max_position_embeddings"
    tokens = config.whole(key)
    if config.text("model_type").startswith("gemma3"):
        return tokens
    factor = 1.0
    for rope in _ropes(config):
        if _kind(rope) not in _ALREADY_SCALED and rope.has("factor"):
            factor = rope.number("factor")
    scaled = tokens * factor
    if not 1 <= scaled <= LARGEST_WHOLE:
        raise config.complaint(key, f"must be from 1 to {LARGEST_WHOLE} once scaled by {factor:g}", tokens)
    return int(scaled)


def default_context(config: Fields) -> int:
    """Return the context where a user asks for none: of LongRoPE the one that its short factors are for."""
    if any(_kind(rope) in _WITH_TWO_TABLES for rope in _ropes(config)):
        return config.whole("original_max_position_embeddings", default=longest_context(config))
    return longest_context(config)


def _ropes(config: Fields) -> Sequence[Fields]:
    """Return what is said of the rotary embeddings, once or for each type of layer."""
    key = config.present("rope_parameters", "rope_scaling")
    if key is None:
        return ()
    rope = config.part(key)
    return rope.parts() or (rope,)


def _kind(rope: Fields) -> str:
    return rope.text("rope_type", "type", default="default")
