"""Turns a Hugging Face config.json, or a catalogue entry with the same keys, into a Model."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from understudy.catalog.attention import Attention, GroupedQueryAttention, LatentAttention
from understudy.catalog.feed_forward import FeedForward, GatedMlp, MixtureOfExperts
from understudy.catalog.fields import Fields
from understudy.catalog.model import Dtype, Model
from understudy.errors import InputError

_MOST_LAYERS = 10_000
"""Layers are listed one by one; the deepest published models have a few hundred."""

_MOST_WEIGHT_BYTES = 2**50

_DTYPES: Mapping[str, Dtype] = MappingProxyType(
    {
        "float16": "float16",
        "half": "float16",
        "bfloat16": "bfloat16",
        "float32": "bfloat16",
        "float": "bfloat16",
    }
)
"""What vLLM's `--dtype auto` makes of a config's dtype."""

_NESTED_NOTE = (
    "Only the language model (text_config) is counted: the weights of vision or audio parts come on top."
)
_SLIDING_NOTE = (
    "Sliding-window layers are counted as full attention: vLLM would keep only their last tokens, "
    "so it fits more tokens of long contexts than stated."
)


def model_from_config(config: Fields, name: str) -> Model:
    """Return the Model that a config describes; `name` is used where the config has none.

    Of a config with a text_config, its keys win over those beside it. Raises InputError, naming the origin and the
    key, for an architecture that is not known and for keys that are missing or not accepted.
    """
    nested = config.has("text_config")
    if nested:
        config = config.over("text_config")
    architecture = config.text("model_type")
    if architecture not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise config.complaint("model_type", f"must be one of {known}", architecture)
    attention, feed_forwards = _ARCHITECTURES[architecture]
    sliding = _has_sliding_window(config, used_by_default=not architecture.startswith("qwen"))
    return Model(
        name=config.text("name", default=name),
        source=config.text("source", default=config.origin),
        hugging_face_id=config.text("hugging_face_id") if config.has("hugging_face_id") else None,
        dtype=_dtype(config),
        vocab_size=config.whole("vocab_size"),
        hidden_size=config.whole("hidden_size"),
        max_position_embeddings=config.whole("max_position_embeddings"),
        tie_word_embeddings=config.flag("tie_word_embeddings", default=False),
        attention=attention(config),
        feed_forwards=feed_forwards(config),
        quant_method=_quant_method(config),
        quantised_weight_bytes=_quantised_weight_bytes(config),
        notes=(*config.texts("notes"), *(_NESTED_NOTE,) * nested, *(_SLIDING_NOTE,) * sliding),
    )


def _dtype(config: Fields) -> Dtype:
    key = config.present("dtype", "torch_dtype")
    if key is None:
        return "bfloat16"
    dtype = config.text(key).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise config.complaint(key, f"must be one of {', '.join(_DTYPES)}", dtype)
    return _DTYPES[dtype]


def _quant_method(config: Fields) -> str | None:
    return (
        config.part("quantization_config").text("quant_method") if config.has("quantization_config") else None
    )


def _quantised_weight_bytes(config: Fields) -> int | None:
    if config.has("weight_bytes"):
        return config.whole("weight_bytes", most=_MOST_WEIGHT_BYTES)
    if config.has("quantization_config"):
        raise InputError(
            f"{config.origin}: weight_bytes is missing: a model with a quantization_config must state the bytes of its "
            "checkpoint (metadata.total_size in its model.safetensors.index.json)"
        )
    return None


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
        router_bias=config.text("topk_method", default="") == "noaux_tc",
    )
    sparse = [layer >= first and layer % step == 0 for layer in range(_num_layers(config))]
    return _mixed_layers(config, experts, sparse)


def _mixed_layers(config: Fields, experts: MixtureOfExperts, sparse: list[bool]) -> tuple[FeedForward, ...]:
    if all(sparse):
        return (experts,) * len(sparse)
    dense = _mlp(config, "intermediate_size")
    return tuple(experts if is_sparse else dense for is_sparse in sparse)


def _experts(
    config: Fields, expert: GatedMlp, count_key: str, *, router_bias: bool = False
) -> MixtureOfExperts:
    count = config.whole(count_key, "num_local_experts", "num_experts", "n_routed_experts")
    return MixtureOfExperts(
        expert=expert,
        num_experts=count,
        num_experts_per_token=config.whole("num_experts_per_tok", "experts_per_token", most=count),
        num_shared_experts=config.whole("n_shared_experts", default=0, least=0),
        router_bias=router_bias,
    )


def _mlp(config: Fields, width_key: str, *, bias: bool = False) -> GatedMlp:
    return GatedMlp(hidden_size=config.whole("hidden_size"), width=config.whole(width_key), bias=bias)


def _num_layers(config: Fields) -> int:
    return config.whole("num_hidden_layers", most=_MOST_LAYERS)


_ARCHITECTURES: Mapping[
    str, tuple[Callable[[Fields], Attention], Callable[[Fields], tuple[FeedForward, ...]]]
] = MappingProxyType(
    {
        "deepseek_v2": (_latent_attention, _deepseek_layers),
        "deepseek_v3": (_latent_attention, _deepseek_layers),
        "gpt_oss": (partial(_grouped_query_attention, sinks=True), _gpt_oss_layers),
        "llama": (_grouped_query_attention, _dense_layers),
        "mistral": (_grouped_query_attention, _dense_layers),
        "mixtral": (_grouped_query_attention, _mixtral_layers),
        "qwen2": (partial(_grouped_query_attention, qkv_bias=True), _dense_layers),
        "qwen3": (partial(_grouped_query_attention, qk_norm=True), _dense_layers),
        "qwen3_moe": (partial(_grouped_query_attention, qk_norm=True), _qwen3_moe_layers),
    }
)
