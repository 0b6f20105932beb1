"""Turns a Hugging Face config.json, or a catalogue entry with the same keys, into a Model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from understudy.catalog.attention import Attention, GroupedQueryAttention, LatentAttention
from understudy.catalog.context_length import default_context, longest_context
from understudy.catalog.feed_forward import FeedForward, GatedMlp, MixtureOfExperts
from understudy.catalog.fields import Fields
from understudy.catalog.model import Model
from understudy.catalog.quantisation import exceptions_note, quantisation_of

_MOST_LAYERS = 10_000
"""Layers are listed one by one; the deepest published models have a few hundred."""

_MOST_WEIGHT_BYTES = 2**50

_OF_GEMMA: Mapping[str, object] = MappingProxyType({"tie_word_embeddings": True})
_DEFAULTS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "gemma": _OF_GEMMA,
        "gemma2": _OF_GEMMA,
        "gemma3_text": {
            **_OF_GEMMA,
            "vocab_size": 262_208,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "max_position_embeddings": 131_072,
        },
    }
)
"""Values of the classes of transformers 5 on which these models' published configs rely."""

_LLAMA_LIKE_KEYS = ("num_key_value_heads", "intermediate_size", "hidden_act")
_GATED_ACTIVATIONS = ("silu", "swish")
_UNLIKE_LLAMA = (
    *("kv_lora_rank", "num_experts", "num_local_experts", "n_routed_experts", "is_encoder_decoder"),
    *(
        "mamba_d_state",
        "ssm_state_size",
        "state_size",
        "conv_kernel",
        "linear_num_key_heads",
        "attn_layer_period",
    ),
    *("layers_block_type", "block_types", "hybrid_override_pattern"),
)

_NESTED_NOTE = (
    "Only the language model (text_config) is counted: the weights of vision or audio parts come on top."
)
_LLAMA_LIKE_NOTE = "The architecture {} is not known: it is counted as Llama, with grouped-query attention and a gated MLP in each layer."
_SLIDING_NOTE = (
    "Sliding-window layers are counted as full attention: vLLM would keep only their last tokens, "
    "so it fits more tokens of long contexts than stated."
)


def model_from_config(config: Fields, name: str) -> Model:
    """Return the Model that a config describes; `name` is used where the config has none.

    Of a config with a text_config, its keys win over those beside it. An architecture that is not known is taken for
    Llama's where the keys are, and a note says so. Raises InputError, naming the origin and the key, for other
    architectures and for keys that are missing or not accepted.
    """
    nested = config.has("text_config")
    if nested:
        config = config.over("text_config")
    model_type = config.text("model_type")
    config = config.with_defaults(_DEFAULTS.get(model_type, {}))
    is_known = model_type in _ARCHITECTURES
    if not is_known:
        _check_llama_like(config)
    architecture = _ARCHITECTURES[model_type if is_known else "llama"]
    sliding = _has_sliding_window(config, used_by_default=not model_type.startswith("qwen"))
    exceptions = exceptions_note(config)
    return Model(
        name=config.text("name", default=name),
        source=config.text("source", default=config.origin),
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("hidden_size"),
        max_position_embeddings=longest_context(config),
        default_max_model_len=default_context(config),
        tie_word_embeddings=config.flag("tie_word_embeddings", default=False),
        attention=architecture.attention(config),
        feed_forwards=architecture.feed_forwards(config),
        norms_per_layer=architecture.norms_per_layer,
        quantisation=quantisation_of(config),
        stated_weight_bytes=(
            config.whole("weight_bytes", most=_MOST_WEIGHT_BYTES) if config.has("weight_bytes") else None
        ),
        notes=(
            *config.texts("notes"),
            *((_LLAMA_LIKE_NOTE.format(model_type),) * (not is_known)),
            *(_NESTED_NOTE,) * nested,
            *(_SLIDING_NOTE,) * sliding,
            *((exceptions,) if exceptions else ()),
        ),
    )


def _check_llama_like(config: Fields) -> None:
    """Raise InputError for an architecture that is not known unless it has Llama's keys and none of another kind."""
    is_like = all(config.has(key) for key in _LLAMA_LIKE_KEYS) and not any(map(config.has, _UNLIKE_LLAMA))
    if not is_like or config.text("hidden_act") not in _GATED_ACTIVATIONS:
        known = ", ".join(_ARCHITECTURES)
        accepted = (
            f"must be one of {known}, or the config have Llama's keys ({', '.join(_LLAMA_LIKE_KEYS)}: silu)"
        )
        raise config.complaint("model_type", accepted, config.text("model_type"))


def _has_sliding_window(config: Fields, *, used_by_default: bool) -> bool:
    kinds = config.texts("layer_types")
    if kinds and len(kinds) != _num_layers(config):
        raise config.complaint("layer_types", "must have one entry for each of num_hidden_layers", kinds)
    for kind in kinds:
        if kind not in {"full_attention", "sliding_attention"}:
            raise config.complaint("layer_types", "must hold only full_attention and sliding_attention", kind)
    if not config.has("sliding_window") or not config.flag("use_sliding_window", default=used_by_default):
        return False
    return not kinds or "sliding_attention" in kinds


def _grouped_query_attention(
    config: Fields, *, qkv_bias: bool = False, qk_norm: bool = False, sinks: bool = False
) -> GroupedQueryAttention:
    hidden_size, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    kv_heads = config.whole("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise config.complaint("num_key_value_heads", f"must divide num_attention_heads ({heads})", kv_heads)
    if not config.has("head_dim") and hidden_size % heads:
        raise config.complaint(
            "hidden_size", f"must be a multiple of num_attention_heads ({heads})", hidden_size
        )
    bias = config.flag("attention_bias", default=False)
    return GroupedQueryAttention(
        hidden_size=hidden_size,
        num_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=config.whole("head_dim", default=hidden_size // heads),
        qkv_bias=qkv_bias or bias,
        output_bias=bias,
        qk_norm=qk_norm,
        sinks=sinks,
    )


def _latent_attention(config: Fields) -> LatentAttention:
    return LatentAttention(
        hidden_size=config.whole("hidden_size"),
        num_heads=config.whole("num_attention_heads"),
        query_rank=config.whole("q_lora_rank") if config.has("q_lora_rank") else None,
        kv_rank=config.whole("kv_lora_rank"),
        nope_head_dim=config.whole("qk_nope_head_dim"),
        rope_head_dim=config.whole("qk_rope_head_dim"),
        value_head_dim=config.whole("v_head_dim"),
        bias=config.flag("attention_bias", default=False),
    )


def _dense_layers(config: Fields) -> tuple[FeedForward, ...]:
    return (_mlp(config, "intermediate_size", bias=config.flag("mlp_bias", default=False)),) * _num_layers(
        config
    )


def _mixtral_layers(config: Fields) -> tuple[FeedForward, ...]:
    return (_experts(config, _mlp(config, "intermediate_size"), "num_local_experts"),) * _num_layers(config)


def _gpt_oss_layers(config: Fields) -> tuple[FeedForward, ...]:
    expert = _mlp(config, "intermediate_size", bias=True)
    return (_experts(config, expert, "num_local_experts", router_bias=True),) * _num_layers(config)


def _qwen3_moe_layers(config: Fields) -> tuple[FeedForward, ...]:
    step, dense_only = (
        config.whole("decoder_sparse_step", default=1),
        frozenset(config.wholes("mlp_only_layers")),
    )
    experts = _experts(config, _mlp(config, "moe_intermediate_size"), "num_experts")
    sparse = [(layer + 1) % step == 0 and layer not in dense_only for layer in range(_num_layers(config))]
    return _mixed_layers(config, experts, sparse)


def _deepseek_layers(config: Fields) -> tuple[FeedForward, ...]:
    first, step = (
        config.whole("first_k_dense_replace", default=0, least=0),
        config.whole("moe_layer_freq", default=1),
    )
    experts = _experts(
        config,
        _mlp(config, "moe_intermediate_size"),
        "n_routed_experts",
        score_correction=config.text("topk_method", default="") == "noaux_tc",
    )
    sparse = [layer >= first and layer % step == 0 for layer in range(_num_layers(config))]
    return _mixed_layers(config, experts, sparse)


def _mixed_layers(config: Fields, experts: MixtureOfExperts, sparse: list[bool]) -> tuple[FeedForward, ...]:
    if all(sparse):
        return (experts,) * len(sparse)
    dense = _mlp(config, "intermediate_size")
    return tuple(experts if is_sparse else dense for is_sparse in sparse)


def _experts(
    config: Fields,
    expert: GatedMlp,
    count_key: str,
    *,
    router_bias: bool = False,
    score_correction: bool = False,
) -> MixtureOfExperts:
    count = config.whole(count_key, "num_local_experts", "num_experts", "n_routed_experts")
    return MixtureOfExperts(
        expert=expert,
        num_experts=count,
        num_experts_per_token=config.whole("num_experts_per_tok", "experts_per_token", most=count),
        num_shared_experts=config.whole("n_shared_experts", default=0, least=0),
        router_bias=router_bias,
        score_correction=score_correction,
    )


def _mlp(config: Fields, width_key: str, *, bias: bool = False) -> GatedMlp:
    return GatedMlp(hidden_size=config.whole("hidden_size"), width=config.whole(width_key), bias=bias)


def _num_layers(config: Fields) -> int:
    return config.whole("num_hidden_layers", most=_MOST_LAYERS)


@dataclass(frozen=True, slots=True)
class _Architecture:
    attention: Callable[[Fields], Attention]
    feed_forwards: Callable[[Fields], tuple[FeedForward, ...]]
    norms_per_layer: int = 2


_ARCHITECTURES: Mapping[str, _Architecture] = MappingProxyType(
    {
        "deepseek_v2": _Architecture(_latent_attention, _deepseek_layers),
        "deepseek_v3": _Architecture(_latent_attention, _deepseek_layers),
        "gemma": _Architecture(_grouped_query_attention, _dense_layers),
        "gemma2": _Architecture(_grouped_query_attention, _dense_layers, norms_per_layer=4),
        "gemma3_text": _Architecture(
            partial(_grouped_query_attention, qk_norm=True), _dense_layers, norms_per_layer=4
        ),
        "gpt_oss": _Architecture(partial(_grouped_query_attention, sinks=True), _gpt_oss_layers),
        "llama": _Architecture(_grouped_query_attention, _dense_layers),
        "mistral": _Architecture(_grouped_query_attention, _dense_layers),
        "mixtral": _Architecture(_grouped_query_attention, _mixtral_layers),
        "phi3": _Architecture(_grouped_query_attention, _dense_layers),
        "qwen2": _Architecture(partial(_grouped_query_attention, qkv_bias=True), _dense_layers),
        "qwen3": _Architecture(partial(_grouped_query_attention, qk_norm=True), _dense_layers),
        "qwen3_moe": _Architecture(partial(_grouped_query_attention, qk_norm=True), _qwen3_moe_layers),
    }
)
