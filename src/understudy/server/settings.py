"""What follows from a command line before anything runs: the engine, the tokenizer, the generator, the limits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.catalog import load_model
from understudy.engine import EngineConfig
from understudy.errors import InputError, UsageError
from understudy.fleet.setup import EngineSetup, engine_setup
from understudy.regular_file import (
    MAX_DATASET_BYTES,
    MAX_SETTINGS_BYTES,
    MAX_TOKENIZER_BYTES,
    check_regular,
    read_regular,
)
from understudy.server.arguments import (
    ServeArguments,
    check_parser_names,
    engine_choices,
    latency_choices,
)
from understudy.server.environment import is_set
from understudy.server.faults import FaultPlan, load_fault_plan
from understudy.server.generate import Generator, make_generator, parse_output_length
from understudy.tokenize import Tokenizer, load_chat_template, load_tokenizer
from understudy.tokenize.huggingface_files import tokenizer_file
from understudy.wire.limits import ModelLimits

_SAMPLING_OF_GENERATION_CONFIG = {
    "repetition_penalty": "repetition_penalty",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "max_new_tokens": "max_tokens",
}
"""Fields of a generation config that vLLM takes as defaults, and its names for them."""

_BESIDE_A_TOKENIZER = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
"""What is read beside a `tokenizer.json`, from its folder."""

MAX_ENGINES = 1024
"""Data-parallel engines of one process: so many start in about two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is decided at start."""

    arguments: ServeArguments
    environment: Mapping[str, str]
    setup: EngineSetup
    tokenizer: Tokenizer
    generator: Generator
    limits: ModelLimits
    served_model_names: tuple[str, ...]
    fault_plan: FaultPlan
    api_keys: tuple[str, ...]

    @property
    def engine_config(self) -> EngineConfig:
        """The configuration of each engine."""
        return self.setup.config


def settings_of(arguments: ServeArguments, environment: Mapping[str, str]) -> Settings:
    """Resolve a command line. Raises UsageError and InputError for what cannot be served."""
    if (chat_template := arguments.values["chat_template"]) is not None:
        _check_file("--chat-template", chat_template, MAX_SETTINGS_BYTES)
        template = load_chat_template(chat_template)
        arguments = replace(arguments, values={**arguments.values, "chat_template": template})
    values = arguments.values
    _check_model(arguments)
    _check_ports(values)
    check_parser_names(values)
    model = values["model"]
    setup = engine_setup(
        model,
        values["gpu"],
        engine_choices(arguments),
        latency_choices(arguments),
        values["performance_mode"],
    )
    tokenizer_source = _tokenizer_source(values)
    _check_tokenizer_files(tokenizer_source)
    tokenizer = load_tokenizer(tokenizer_source)
    seed = values["seed"] or 0
    _check_file("--generator-dataset", values["generator_dataset"], MAX_DATASET_BYTES)
    generator = make_generator(
        values["generator"],
        tokenizer,
        seed=seed,
        output_length=parse_output_length(values["output_length"]),
        dataset=values["generator_dataset"],
        model_folder=values["generator_model"],
    )
    names = tuple(values["served_model_name"] or (model,))
    defaults, cap = _default_sampling(values)
    if (values["data_parallel_size"] or 1) > MAX_ENGINES:
        raise UsageError(
            f"--data-parallel-size must be at most {MAX_ENGINES}, got {values['data_parallel_size']}"
        )
    limits = ModelLimits(
        max_model_len=setup.config.max_model_len,
        vocabulary_size=setup.model.vocab_size,
        max_characters_per_token=tokenizer.max_characters_per_token,
        max_token_id=max(setup.model.vocab_size, tokenizer.vocabulary_size) - 1,
        served_model_names=names,
        max_logprobs=values["max_logprobs"],
        default_sampling=defaults,
        max_tokens_cap=cap,
        enable_auto_tool_choice=bool(values["enable_auto_tool_choice"]),
        has_tool_parser=values["tool_call_parser"] is not None,
        has_reasoning_parser=bool(values["reasoning_parser"]),
        trust_request_chat_template=bool(values["trust_request_chat_template"]),
        trust_request_mm_kwargs=bool(values["trust_request_mm_kwargs"]),
        checks_model_name=not is_set(environment, "VLLM_SKIP_MODEL_NAME_VALIDATION"),
    )
    faults = values["faults"]
    return Settings(
        arguments=arguments,
        environment=environment,
        setup=setup,
        tokenizer=tokenizer,
        generator=generator,
        limits=limits,
        served_model_names=names,
        fault_plan=FaultPlan() if faults is None else load_fault_plan(faults),
        api_keys=_api_keys(values, environment),
    )


def _check_file(flag: str, source: str | Path | None, max_bytes: int) -> None:
    """Raise InputError for a path at which there is no regular file, or too long a one; what is no path passes."""
    try:
        exists = source is not None and Path(source).exists()
    except (OSError, ValueError):
        return
    if exists:
        try:
            check_regular(Path(str(source)), max_bytes)
        except InputError as error:
            raise InputError(f"{flag} {error}") from error


def _check_tokenizer_files(source: str | None) -> None:
    """Raise InputError where a file of a tokenizer is too long to be one."""
    file = None if source is None else tokenizer_file(Path(source))
    if file is None:
        return
    check_regular(file, MAX_TOKENIZER_BYTES)
    for pattern in _BESIDE_A_TOKENIZER:
        for other in file.parent.glob(pattern):
            check_regular(other, MAX_SETTINGS_BYTES)


def _check_model(arguments: ServeArguments) -> None:
    """Refuse a configuration that cannot be read, and say of a model that was not given why it is asked for."""
    path = Path(arguments.values["model"])
    for config in (path, path / "config.json"):
        if config.suffix == ".json":
            _check_file("the model's configuration", config, MAX_SETTINGS_BYTES)
    if "model" in arguments.given:
        return
    try:
        load_model(arguments.values["model"])
    except UsageError as error:
        raise UsageError(f"no model is given, and vLLM's default cannot be served: {error}") from error


def _check_ports(values: Mapping[str, Any]) -> None:
    port, admin_port = values["port"], values["admin_port"]
    if admin_port and admin_port == port and not values["uds"]:
        raise UsageError(f"--admin-port and --port are both {port}: give two different ports")


def _tokenizer_source(values: Mapping[str, Any]) -> str | None:
    """Return what names the tokenizer: the flag, or the model's folder if it has one; None for the offline one."""
    if values["tokenizer"] is not None:
        return str(values["tokenizer"])
    model = values["model"]
    return model if (Path(model) / "tokenizer.json").is_file() else None


def _api_keys(values: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, ...]:
    given = values["api_key"]
    if given:
        return tuple(key for key in given if key)
    key = environment.get("VLLM_API_KEY")
    return (key,) if key else ()


def _default_sampling(values: Mapping[str, Any]) -> tuple[dict[str, object], int | None]:
    """Return the sampling defaults of the generation config, and the cap on max_tokens that it sets, if it does."""
    source = values["generation_config"]
    folder = values["model"] if source == "auto" else source
    config = {} if source == "vllm" else _generation_config(Path(folder), must_exist=source != "auto")
    override = values["override_generation_config"] or {}
    if not isinstance(override, Mapping):
        raise UsageError("--override-generation-config must be a JSON object")
    merged = {**config, **override}
    defaults: dict[str, object] = {
        name: merged[field]
        for field, name in _SAMPLING_OF_GENERATION_CONFIG.items()
        if merged.get(field) is not None
    }
    eos = merged.get("eos_token_id")
    if isinstance(eos, list):
        defaults["stop_token_ids"] = eos
    cap = defaults.get("max_tokens") if source not in {"auto", "vllm"} else override.get("max_new_tokens")
    return defaults, cap if isinstance(cap, int) else None


def _generation_config(folder: Path, *, must_exist: bool) -> dict[str, Any]:
    path = folder / "generation_config.json"
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        if must_exist:
            raise InputError(f"--generation-config: there is no {path}")
        return {}
    data = read_regular(path, MAX_SETTINGS_BYTES)
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no JSON object")
    return config
