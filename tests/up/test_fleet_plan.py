"""Which processes there are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import InputError, UsageError
from understudy.gateway.settings import RouteSettings
from understudy.server.arguments import parse_serve_arguments
from understudy.server.faults import FaultPlan, load_fault_plan
from understudy.up.fleet_plan import FleetOptions, FleetPlan, WorkerPlan, plan_fleet
from understudy.up.profile import Group

OPTIONS = FleetOptions(model="llama-3.1-8b", gpu="h100", time_scale=0.5, startup="2s")
SETTINGS = RouteSettings()
TOKENIZER = Path(__file__).parents[1] / "data" / "tokenizer" / "byte_level"


def _plan(*groups: Group, options: FleetOptions = OPTIONS, settings: RouteSettings = SETTINGS) -> FleetPlan:
    return plan_fleet(groups or [Group()], options, settings, Path())


def _understood(worker: WorkerPlan) -> dict[str, Any]:
    """Return what `understudy serve` understands."""
    command, *words = worker.words
    assert command == "serve"
    return dict(parse_serve_arguments(words, {}).values)


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    base_port=st.none() | st.integers(1, 65_000),
)
def test_each_worker_is_there_once(counts: list[int], base_port: int | None) -> None:
    """As many as the groups count, each with a name and a port of its own, in order."""
    groups = [Group(name=f"g{number}", count=count) for number, count in enumerate(counts)]
    workers = _plan(*groups, options=replace(OPTIONS, base_port=base_port)).workers
    assert [worker.name for worker in workers] == [
        f"g{group}-{number}" for group, count in enumerate(counts) for number in range(count)
    ]
    ports = [int(worker.words[-1]) for worker in workers]
    assert ports == [0 if base_port is None else base_port + number for number in range(sum(counts))]
    assert all(worker.words[-2] == "--port" for worker in workers)


def test_the_router_can_know_all_of_a_worker() -> None:
    """It listens on loopback only, publishes KV events with replay, lists its blocks and tells what was cached."""
    (worker,) = _plan().workers
    values = _understood(worker)
    assert values["host"] == "127.0.0.1"
    assert values["kv_events_config"] == {
        "enable_kv_cache_events": True,
        "endpoint": "tcp://*:0",
        "replay_endpoint": "tcp://*:0",
    }
    assert values["enable_prompt_tokens_details"]
    assert values["enable_kv_blocks_endpoint"]
    assert (values["gpu"], values["time_scale"], values["startup"]) == ("h100", 0.5, 2.0)
    assert values["admin_port"] is None
    assert worker.models == ("llama-3.1-8b",)


def test_router_and_workers_agree(tmp_path: Path) -> None:
    """On blocks, their hashes, the tokenizer and the chat template, which are given once."""
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}", encoding="utf-8")
    settings = RouteSettings(
        block_size=32,
        prefix_caching_hash_algo="sha256_cbor",
        hash_seed="7",
        tokenizer=str(TOKENIZER),
        chat_template=str(template),
    )
    plan = _plan(settings=settings)
    values = _understood(plan.workers[0])
    assert values["block_size"] == 32
    assert values["prefix_caching_hash_algo"] == "sha256_cbor"
    assert values["tokenizer"] == plan.tokenizer == str(TOKENIZER)
    assert values["chat_template"] == str(template)
    assert plan.environment["PYTHONHASHSEED"] == "7"


def test_the_environment_of_workers_is_ours() -> None:
    """Neither a key nor a hash seed of the user's reaches them, for the router knows of neither."""
    environment = _plan().environment
    assert environment["VLLM_API_KEY"] is None
    assert environment["PYTHONHASHSEED"] is None
    assert environment["VLLM_HOST_IP"] == "127.0.0.1"


def test_a_models_own_tokenizer_is_the_routers_too(tmp_path: Path) -> None:
    """A folder with a tokenizer is taken by the workers, so by the router; where groups differ it has its own."""
    (tmp_path / "tokenizer.json").write_bytes((TOKENIZER / "tokenizer.json").read_bytes())
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 256,
                "intermediate_size": 512,
                "num_attention_heads": 4,
                "num_hidden_layers": 2,
                "num_key_value_heads": 4,
                "vocab_size": 1000,
                "max_position_embeddings": 2048,
                "torch_dtype": "bfloat16",
            }
        ),
        encoding="utf-8",
    )
    own = Group(name="own", model=str(tmp_path))
    assert _plan(own).tokenizer == str(tmp_path)
    assert _plan(own, Group(name="other")).tokenizer is None


def test_a_group_says_what_is_its_own() -> None:
    """Its model, GPU, names, times and flags; the flags for all hold where it says nothing."""
    options = replace(OPTIONS, worker_flags=("--max-num-seqs", "7", "--seed", "1"), admin=True)
    plain, special = _plan(
        Group(name="plain"),
        Group(
            name="special",
            model="llama-2-13b",
            gpu="a100-40gb",
            served_model_name=["one", "two"],
            flags={"seed": 2},
            time_scale=0.0,
            startup=0,
        ),
        options=options,
    ).workers
    values = _understood(special)
    assert special.models == ("one", "two")
    assert special.gpu == "a100-40gb"
    assert (values["model"], values["gpu"], values["seed"], values["max_num_seqs"]) == (
        "llama-2-13b",
        "a100-40gb",
        2,
        7,
    )
    assert (values["time_scale"], values["startup"]) == (0, 0)
    others = _understood(plain)
    assert (others["model"], others["seed"], others["time_scale"], others["admin_port"]) == (
        "llama-3.1-8b",
        1,
        0.5,
        0,
    )


def test_faults_reach_their_workers(tmp_path: Path) -> None:
    """A plan in the profile comes as a file that says the same; a file is checked at once."""
    faults = msgspec.convert({"seed": 5, "faults": [{"kind": "stall", "rate": 0.5}]}, FaultPlan)
    plan = plan_fleet([Group(name="bad", faults=faults)], OPTIONS, SETTINGS, tmp_path)
    assert load_fault_plan(Path(_understood(plan.workers[0])["faults"])) == faults
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        _plan(Group(faults=str(tmp_path / "nowhere.yaml")))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--no-such-flag",), "the flags of worker cannot be served: unrecognized arguments: --no-such-flag"),
        (("stray",), "unrecognized arguments: stray"),
        (("--max-num-seqs", "many"), "the flags of worker cannot be served: argument --max-num-seqs"),
        (("--gpu", "a100-40gb"), "--gpu: give it to `understudy up` itself"),
        (("--block-size=32",), "--block-size: give it"),
        (("--model", "llama-2-13b"), "--model: give it"),
        (("--tokenizer", "x", "--startup", "1s"), "--startup, --tokenizer: give it"),
        (("--port", "1"), "--port: chosen by `understudy up`"),
        (("--kv-events-config.endpoint", "tcp://*:1"), "--kv-events-config: chosen by"),
        (("--ssl-keyfile", "x"), "--ssl-keyfile: chosen by"),
        (("--api-key", "x"), "--api-key: chosen by"),
        (("--help",), "understudy serve --help"),
    ],
)
def test_flags_that_cannot_be_are_told_before_anything_runs(flags: tuple[str, ...], words: str) -> None:
    """With the group that has them and the parser's reason, or the place where they belong."""
    with pytest.raises(UsageError) as caught:
        _plan(options=replace(OPTIONS, worker_flags=flags))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("group", "options", "words"),
    [
        (Group(count=0), OPTIONS, "from 1 to 1024, got 0"),
        (Group(count=1025), OPTIONS, "from 1 to 1024, got 1025"),
        (
            Group(count=3),
            replace(OPTIONS, base_port=65_534),
            "--base-port must be from 1 to 65533 for 3 workers",
        ),
        (Group(count=3), replace(OPTIONS, base_port=0), "--base-port must be"),
        (Group(model="nobody/knows"), OPTIONS, "unknown model 'nobody/knows'"),
        (Group(gpu="h1000"), OPTIONS, "unknown gpu 'h1000'"),
        (Group(time_scale=-1), OPTIONS, "--time-scale"),
        (Group(startup="soon"), OPTIONS, "--startup"),
    ],
)
def test_what_cannot_be_is_refused(group: Group, options: FleetOptions, words: str) -> None:
    """In one sentence that names it."""
    with pytest.raises(UsageError) as caught:
        _plan(group, options=options)
    assert words.lower() in str(caught.value).lower()
