"""LoRA adapters by name: which are there, what numbers they get, and which of them may be loaded. It knows no HTTP.

(vllm/entrypoints/openai/models/serving.py and vllm/lora/peft_helper.py, 0.33.0)
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import InputError, UsageError
from understudy.regular_file import MAX_SETTINGS_BYTES, read_regular
from understudy.server.arguments import LoRAModule
from understudy.server.context import Adapter, ServerContext
from understudy.wire.errors import ApiError, internal, not_found

_HUB_ID = re.compile(r"(\b[\w\-.]{1,96}\b/)?\b[\w\-.]{1,96}\b", re.ASCII)
"""What the hub's client takes as an id: a name, perhaps behind that of its owner. (huggingface_hub/utils/_validators.py)"""

_REQUIRED_FIELDS = ("r", "lora_alpha", "target_modules")
_UNSUPPORTED = {
    "use_dora": "vLLM does not yet support DoRA.",
    "lora_bias": "vLLM does not support LoRA bias (lora_bias).",
    "alora_invocation_tokens": "vLLM does not support Activated LoRA (aLoRA).",
    "layer_replication": "vLLM does not support layer_replication.",
    "use_bdlora": "vLLM does not support block-diagonal LoRA (BD-LoRA).",
    "use_qalora": "vLLM does not support QALoRA.",
}
"""Fields of an adapter's configuration that must not be set, and what vLLM says where they are."""

_AFTER_THE_START = "alora_invocation_tokens"
"""Before this field vLLM looks at how the weights were started."""

_PLAIN_STARTS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
"""Starts of the weights that leave the base model as it is."""

_MODULES_TO_SAVE = frozenset({"classifier", "score"})


class AdapterTable(dict[str, Adapter]):
    """The adapters of a server by name, in the order of loading, and the number that was given last.

    Numbers begin at 1 and never come again: one is used up by every attempt to load an adapter that is not there yet.
    `numbers` keeps those of adapters that were unloaded, whose blocks are in the cache still.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last_number = 0
        self.numbers: dict[str, int] = {}

    def new_number(self) -> int:
        """Return a number that nobody had."""
        self.last_number += 1
        return self.last_number


def check_lora_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise UsageError for values that vLLM refuses at start; how many adapters a batch may hold is ignored otherwise."""
    max_loras, max_cpu_loras = arguments.get("max_loras", 1), arguments.get("max_cpu_loras")
    if max_loras < 1:
        raise UsageError(f"max_loras must be at least 1, got {max_loras}")
    if max_cpu_loras is not None and max_cpu_loras < max_loras:
        raise UsageError(f"max_cpu_loras ({max_cpu_loras}) must be >= max_loras ({max_loras}).")


def load_static_adapters(context: ServerContext, modules: Sequence[LoRAModule]) -> None:
    """Load what `--lora-modules` names; raises UsageError where vLLM would not start."""
    for module in modules:
        try:
            load_adapter(context, module.name, module.path, base_model_name=module.base_model_name)
        except ApiError as error:
            raise UsageError(f"--lora-modules: {error.message}") from error


def load_adapter(
    context: ServerContext,
    name: str,
    path: str,
    *,
    in_place: bool = False,
    base_model_name: str | None = None,
) -> Adapter:
    """Load an adapter, or load it again, under its old number, where `in_place`; raises ApiError."""
    table = adapters_of(context)
    if not name or not path:
        raise _invalid("Both 'lora_name' and 'lora_path' must be provided.")
    if name in context.models.names:
        raise _invalid(f"The lora adapter '{name}' conflicts with a served base model.")
    if name in table and not in_place:
        raise _invalid(
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
            "set 'load_inplace' to True."
        )
    number = table[name].number if name in table else table.new_number()
    if not context.arguments.get("enable_lora"):
        raise _engine_refusal("LoRA is not enabled. Use --enable-lora to enable LoRA.")
    _check_files(name, path, _max_rank(context.arguments))
    base_model = base_model_name if base_model_name in context.models.names else None
    table[name] = Adapter(name, path, number, base_model)
    table.numbers[name] = number
    return table[name]


def unload_adapter(context: ServerContext, name: str) -> None:
    """Forget an adapter; its requests in work go on. Raises ApiError."""
    if not name:
        raise _invalid("'lora_name' needs to be provided to unload a LoRA adapter.")
    if name not in context.models.adapters:
        raise not_found(f"The lora adapter '{name}' cannot be found.")
    del context.models.adapters[name]


def adapters_of(context: ServerContext) -> AdapterTable:
    """Return the adapters of a server."""
    table = context.models.adapters
    assert isinstance(table, AdapterTable), "the server was made with one"
    return table


def _max_rank(arguments: Mapping[str, Any]) -> int:
    rank = arguments.get("max_lora_rank", 16)
    assert isinstance(rank, int), "the command line was checked"
    return rank


def _check_files(name: str, path: str, max_rank: int) -> None:
    """Refuse an adapter that vLLM would not load. A Hugging Face id is taken on trust: nothing is fetched.

    Nothing but the configuration is read: weights are not needed.
    """
    if _is_hub_id(path) and not Path(path).exists():
        return
    try:
        folder = Path(path).expanduser() if path.startswith("~") else Path(path)
        config = json.loads(read_regular(folder / "adapter_config.json", MAX_SETTINGS_BYTES))
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):
            raise not_found(f"Loading lora {name} failed: No adapter found for {path}") from error
        raise _engine_refusal(str(cause or error)) from error
    except (ValueError, RuntimeError) as error:
        raise _engine_refusal(str(error)) from error
    if problems := _problems(config, max_rank):
        raise _engine_refusal(" ".join(problems))


def _is_hub_id(path: str) -> bool:
    """Return whether a path may be the id of a repository on the Hugging Face hub, which its client would ask for."""
    return _HUB_ID.fullmatch(path) is not None and not re.search(r"--|\.\.|\.git$", path)


def _problems(config: object, max_rank: int) -> list[str]:
    """Return what vLLM finds wrong with an adapter's configuration."""
    if not isinstance(config, dict):
        return ["adapter_config.json must hold a JSON object."]
    missing = [field for field in _REQUIRED_FIELDS if field not in config]
    if missing:
        return [f"Missing required configuration fields: {{{', '.join(map(repr, missing))}}}"]
    rank, pattern = config["r"], config.get("rank_pattern") or {}
    if not _is_rank(rank):
        return [f"LoRA rank `r` must be a positive integer, got {rank}."]
    if not isinstance(pattern, dict):
        return ["rank_pattern must be a JSON object."]
    for key, value in pattern.items():
        if not _is_rank(value):
            return [f"LoRA rank for `{key}` in `rank_pattern` must be a positive integer, got {value}."]
    highest = max([rank, *pattern.values()])
    return [
        *_unsupported(config),
        *([f"LoRA rank {highest} is greater than max_lora_rank {max_rank}."] if highest > max_rank else []),
        *(["Adapter bias is not supported."] if config.get("bias", "none") != "none" else []),
    ]


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what vLLM says of the features that it does not have, in its order."""
    saved = config.get("modules_to_save")
    others = [each for each in saved if each not in _MODULES_TO_SAVE] if isinstance(saved, list) else []
    if others:
        yield (
            'vLLM only supports modules_to_save being either None or ["classifier", "score"] for classification '
            f"models. Unsupported modules_to_save: {others}"
        )
    for field, text in _UNSUPPORTED.items():
        if field == _AFTER_THE_START and not _is_plain_start(config.get("init_lora_weights", True)):
            yield (
                f"vLLM does not support init_lora_weights={config['init_lora_weights']!r}. Inits such as PiSSA, OLoRA, "
                "CorDA and LoftQ modify the base model weights when PEFT loads the adapter. Convert it to a regular LoRA "
                "adapter with PEFT's path_initial_model_for_weight_conversion, or set init_lora_weights to true if the "
                "served base model already contains the modified weights."
            )
        if config.get(field):
            yield text


def _is_plain_start(init: object) -> bool:
    return not isinstance(init, str) or init.lower() in _PLAIN_STARTS


def _invalid(message: str) -> ApiError:
    return ApiError(message, kind="InvalidUserInput")


def _engine_refusal(message: str) -> ApiError:
    return internal(f"Call to add_lora method failed: {message}")
