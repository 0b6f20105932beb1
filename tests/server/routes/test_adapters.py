"""LoRA adapters: names, numbers, files, and the command line."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.routes.fakes import FakeServer

from understudy.errors import UsageError
from understudy.server.arguments import LoRAModule
from understudy.server.context import ServerContext
from understudy.server.routes import lora
from understudy.server.routes.adapters import (
    check_lora_arguments,
    load_adapter,
    load_static_adapters,
    unload_adapter,
)
from understudy.wire.errors import ApiError

CONFIG: Mapping[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def _context(
    arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> ServerContext:
    async def make() -> ServerContext:
        return FakeServer(arguments, environment).context

    return asyncio.run(make())


def _folder(path: Path, config: object) -> str:
    (path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(path)


@given(st.lists(st.tuples(st.sampled_from(["load", "again", "unload"]), st.sampled_from("abm")), max_size=20))
def test_numbers_never_come_again(steps: list[tuple[str, str]]) -> None:
    """A new adapter has a number above all before; loading in place keeps it; exactly what is loaded is there."""
    context = _context()
    highest = 0
    loaded: dict[str, int] = {}
    for action, name in steps:
        try:
            if action in {"load", "again"}:
                number = load_adapter(context, name, "org/adapter", in_place=action == "again").number
                assert number == loaded[name] if name in loaded else number > highest
                loaded[name] = number
                highest = max(highest, number)
            else:
                unload_adapter(context, name)
                del loaded[name]
        except ApiError:
            refused = {
                "load": name == "m" or name in loaded,
                "again": name == "m",
                "unload": name not in loaded,
            }
            assert refused[action]
    assert {name: adapter.number for name, adapter in context.models.adapters.items()} == loaded
    assert list(context.models.adapters) == list(loaded)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "Gaussian", "modules_to_save": ["score"]},
        {"init_lora_weights": False, "modules_to_save": None},
        {"r": 16, "bias": "none", "use_dora": False, "rank_pattern": None},
    ],
)
def test_an_adapter_that_fits_is_loaded(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    """Whatever else its configuration says."""
    assert load_adapter(_context(), "a", _folder(tmp_path, {**CONFIG, **changes})).number == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 64}, "LoRA rank 64 is greater than max_lora_rank 16."),
        ({"rank_pattern": {"q": 32}}, "LoRA rank 32 is greater than max_lora_rank 16."),
        ({"r": 0}, "LoRA rank `r` must be a positive integer, got 0."),
        ({"bias": "all"}, "Adapter bias is not supported."),
        (
            {"use_dora": True, "r": 32},
            "vLLM does not yet support DoRA. LoRA rank 32 is greater than max_lora_rank 16.",
        ),
        (
            {"rank_pattern": {"q": 0}},
            "LoRA rank for `q` in `rank_pattern` must be a positive integer, got 0.",
        ),
        (
            {"modules_to_save": ["classifier", "lm_head"]},
            (
                'vLLM only supports modules_to_save being either None or ["classifier", "score"] for classification '
                "models. Unsupported modules_to_save: ['lm_head']"
            ),
        ),
        (
            {"init_lora_weights": "pissa", "alora_invocation_tokens": [1]},
            (
                "vLLM does not support init_lora_weights='pissa'. Inits such as PiSSA, OLoRA, CorDA and LoftQ modify the "
                "base model weights when PEFT loads the adapter. Convert it to a regular LoRA adapter with PEFT's "
                "path_initial_model_for_weight_conversion, or set init_lora_weights to true if the served base model "
                "already contains the modified weights. vLLM does not support Activated LoRA (aLoRA)."
            ),
        ),
    ],
)
def test_an_adapter_that_lies_here_must_fit(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    """The checks of adapter_config.json are vLLM's, and errors of the engine."""
    context = _context()
    with pytest.raises(ApiError) as caught:
        load_adapter(context, "a", _folder(tmp_path, {**CONFIG, **changes}))
    assert caught.value.message == f"Call to add_lora method failed: {message}"
    assert (caught.value.status, caught.value.kind) == (500, "InternalServerError")
    assert not context.models.adapters


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere/at/all",
        "~/nowhere-at-all",
        "./nowhere",
        "nowhere/",
        "a/b/c",
        "adapter--1",
        "..",
        "org/adapter.git",
        "\u00e9",
        "a" * 97,
    ],
)
def test_a_path_without_an_adapter_is_not_found(path: str) -> None:
    """In vLLM's words, with 404; nothing is left but the number that was used up."""
    context = _context()
    with pytest.raises(ApiError) as caught:
        load_adapter(context, "a", path)
    assert caught.value.message == f"Loading lora a failed: No adapter found for {path}"
    assert (caught.value.status, caught.value.kind) == (404, "NotFoundError")
    assert not context.models.adapters
    assert load_adapter(context, "a", "org/adapter").number == 2


def test_a_folder_must_hold_a_configuration_and_a_hub_id_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No weights are needed, and nothing is fetched; a folder here comes before an id that reads the same."""
    context = _context()
    with pytest.raises(ApiError, match="No adapter found"):
        load_adapter(context, "a", str(tmp_path))
    assert load_adapter(context, "b", _folder(tmp_path, CONFIG)).number == 2
    assert load_adapter(context, "c", "org/adapter").number == 3
    assert load_adapter(context, "d", "adapter_1.0").number == 4
    (tmp_path / "org" / "adapter").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ApiError, match="No adapter found for org/adapter"):
        load_adapter(context, "e", "org/adapter")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "file in between"])
def test_what_is_no_file_ends_in_an_answer(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to, a device that never ends: an error of the engine, at once."""
    config = tmp_path / "adapter_config.json"
    match kind:
        case "pipe":
            os.mkfifo(config)
        case "folder":
            config.mkdir()
        case "device":
            config.symlink_to("/dev/zero")
        case _:
            config.touch()
    path = config if kind == "file in between" else tmp_path
    with pytest.raises(ApiError, match="Call to add_lora method failed: ") as caught:
        load_adapter(_context(), "a", str(path))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"r": 8}',
        '{"r": 8, "lora_alpha": 1, "target_modules": [], "rank_pattern": [1]}',
    ],
)
def test_a_broken_configuration_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever it is, it ends in an answer."""
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ApiError, match="Call to add_lora method failed"):
        load_adapter(_context(), "a", str(tmp_path))


def test_without_enable_lora_nothing_is_loaded() -> None:
    """Neither while the server runs nor at its start."""
    context = _context(arguments={})
    with pytest.raises(ApiError, match="LoRA is not enabled"):
        load_adapter(context, "a", "/nowhere")
    with pytest.raises(UsageError, match="LoRA is not enabled"):
        load_static_adapters(context, [LoRAModule(name="a", path="/nowhere")])


def test_adapters_of_the_command_line_are_loaded_in_its_order() -> None:
    """A base model that is not served is forgotten, as in vLLM; a name that comes twice or a path without an adapter stops the start."""
    context = _context()
    modules = [
        LoRAModule(name="a", path="org/a"),
        LoRAModule(name="b", path="org/b", base_model_name="m"),
        LoRAModule(name="c", path="c", base_model_name="other"),
    ]
    load_static_adapters(context, modules)
    found = [
        (adapter.name, adapter.number, adapter.base_model) for adapter in context.models.adapters.values()
    ]
    assert found == [("a", 1, None), ("b", 2, "m"), ("c", 3, None)]
    with pytest.raises(UsageError, match="The lora adapter 'a' has already been loaded"):
        load_static_adapters(context, modules[:1])
    with pytest.raises(
        UsageError, match="--lora-modules: Loading lora d failed: No adapter found for /nowhere"
    ):
        load_static_adapters(context, [LoRAModule(name="d", path="/nowhere")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_loras": 0}, "max_loras must be at least 1"),
        ({"max_loras": 4, "max_cpu_loras": 2}, r"max_cpu_loras \(2\) must be >= max_loras \(4\)"),
    ],
)
def test_flags_that_vllm_refuses_are_refused(arguments: Mapping[str, Any], message: str) -> None:
    """At start, in one sentence; the defaults are fine."""
    check_lora_arguments({})
    with pytest.raises(UsageError, match=message):
        check_lora_arguments(arguments)


@pytest.mark.parametrize(("value", "is_served"), [("", False), ("0", False), ("1", True), (" True ", True)])
def test_runtime_updates_are_a_variable(value: str, is_served: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """VLLM_ALLOW_RUNTIME_LORA_UPDATING, 1 or true."""
    assert lora.is_served({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": value}) is is_served
