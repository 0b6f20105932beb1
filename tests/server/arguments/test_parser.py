"""What our own part of the command line promises."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.server.arguments.parsing import TRACEBACK, outcome, parsed

from understudy.catalog import known_gpus
from understudy.server.arguments import LoRAModule
from understudy.server.arguments.flags import DEFAULT_GPU, OWN_FLAGS, acting_dests, read_catalogue

FLAGS = {flag.dest: flag for group in read_catalogue().groups for flag in group.flags}
WORDS = st.one_of(
    st.sampled_from(sorted(name for flag in FLAGS.values() for name in (*flag.names, *flag.negative_names))),
    st.sampled_from(
        [
            "m",
            "--",
            "-",
            "--config",
            "--model",
            "--help=",
            "-O",
            "-O=",
            "-.5",
            "--a.b",
            "--kv-events-config.x+",
            "{}",
        ]
    ),
    st.text(max_size=8),
    st.text("-_=.+,[]{}\"'0123456789kKaM", max_size=12),
)


@given(argv=st.lists(WORDS, max_size=6))
@example(argv=["m", "--hf-overrides", "[" * 100_000])
@example(argv=["m", f"--hf-overrides{'.a' * 100_000}=1"])
@example(argv=["m", "--max-num-batched-tokens", f"{'9' * 400}.5k"])
@example(argv=["m", "--kv-events-config", f'{{"hwm": {"9" * 400}.5k}}'])
@example(argv=["m", "--kv-events-config", '{"hwm": 1.5K}'])
@example(argv=["m", "--lora-modules", "[" * 100_000])
@example(argv=["m", "--chat-template", "\0"])
@example(argv=["m", "--config", "\0.yaml"])
def test_whatever_is_typed_ends_well(argv: Sequence[str]) -> None:
    """There are arguments, a usage error or one of our errors in one line; never another exception."""
    ended = outcome(argv)
    assert ended.status in {0, 1, 2}
    assert ended.status != TRACEBACK or ended.text


@pytest.mark.parametrize("name", [flag.name for flag in OWN_FLAGS])
def test_our_own_flags_are_never_abbreviated(name: str) -> None:
    """One letter less is never understood as the flag."""
    ended = outcome(["m", f"{name[:-1]}=1"])
    assert ended.arguments is None or not ended.arguments.given & {flag.dest for flag in OWN_FLAGS}


@pytest.mark.parametrize(
    ("words", "dest", "value"),
    [
        ("--gpu H100", "gpu", "h100"),
        ("--gpu a100_80gb", "gpu", "a100-80gb"),
        ("--time-scale 0", "time_scale", 0.0),
        ("--time_scale=0.25", "time_scale", 0.25),
        ("--startup 30", "startup", 30.0),
        ("--startup 30s", "startup", 30.0),
        ("--startup 500ms", "startup", 0.5),
        ("--startup 2m", "startup", 120.0),
        ("--startup 1.5m", "startup", 90.0),
        ("--generator echo", "generator", "echo"),
        ("--output-length uniform:1,2", "output_length", "uniform:1,2"),
        ("--admin-port 0", "admin_port", 0),
        ("--simulated-time-headers", "simulated_time_headers", True),
        ("--no-simulated-time-headers", "simulated_time_headers", False),
        ("--decode-seconds-per-step 0.01", "decode_seconds_per_step", 0.01),
    ],
)
def test_our_own_flags_are_read(words: str, dest: str, value: object) -> None:
    """Each kind of value, and the flag counts as given and as one with an effect."""
    arguments = parsed("m", *words.split())
    assert arguments.values[dest] == value
    assert dest in arguments.given
    assert not arguments.without_effect


@pytest.mark.parametrize(
    "words",
    [
        "--gpu h1000",
        "--time-scale -1",
        "--time-scale nan",
        "--time-scale inf",
        "--time-scale 1e-320",
        "--time-scale 1e308",
        "--startup 99999999999999999999",
        "--startup 3h",
        "--startup -1",
        "--startup 1e3",
        "--generator parrot",
        "--admin-port 65536",
        "--admin-port -1",
        "--prefill-base-seconds -1",
        "--prefill-base-seconds x",
        "--faults",
    ],
)
def test_bad_values_of_our_own_flags_are_usage_errors(words: str) -> None:
    """The status is 2 and the message names the flag."""
    ended = outcome(["m", *words.split()])
    assert ended.status == 2
    assert f"argument {words.split(maxsplit=1)[0]}" in ended.text


def test_the_default_gpu_is_in_the_catalogue() -> None:
    """Nobody must name a GPU."""
    assert parsed("m").values["gpu"] == DEFAULT_GPU
    assert DEFAULT_GPU in known_gpus()


def test_flags_without_effect_are_named_once_in_order_as_the_user_knows_them() -> None:
    """Both from the command line and from a config file; flags with an effect are not among them."""
    arguments = parsed(
        "m",
        "--no-enforce-eager",
        "--port",
        "1",
        "-q",
        "awq",
        "--dtype=half",
        "--enforce-eager",
        "--max_loras",
        "2",
        "--enable-lora",
    )
    assert arguments.without_effect == ("--enforce-eager", "-q", "--dtype")
    assert arguments.given == {
        *("model", "enforce_eager", "port", "quantization", "dtype", "max_loras", "enable_lora")
    }


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (
            "--ssl-ca-certs c --ssl-ciphers x",
            ("--ssl-ca-certs", "--ssl-ciphers"),
        ),
        ("--ssl-keyfile k --ssl-certfile c", ()),
        ("--uds s --port 1 --host h", ("--port", "--host")),
        ("--max-loras 2", ("--max-loras",)),
        ("--generator-dataset f --generator-model g", ("--generator-dataset", "--generator-model")),
        ("--generator-dataset f --output-length dataset", ()),
        ("--generator-dataset f --generator dataset", ()),
        ("--performance-mode interactivity", ("--performance-mode",)),
        ("--performance-mode throughput", ()),
    ],
)
def test_flags_that_others_leave_without_effect_are_named_too(words: str, idle: tuple[str, ...]) -> None:
    """Ciphers without a certificate, a port beside a socket file, and their like."""
    assert parsed("m", *words.split()).without_effect == idle


@given(dest=st.sampled_from(sorted(dest for dest, flag in FLAGS.items() if flag.kind in {"switch", "on"})))
def test_a_flag_has_an_effect_exactly_if_the_data_say_so(dest: str) -> None:
    """What does nothing is told, what does something is not."""
    needed = ["--tool-call-parser", "hermes", "--enable-log-requests"]
    ended = outcome(["m", FLAGS[dest].name, *needed])
    if ended.arguments is not None:
        assert (FLAGS[dest].name in ended.arguments.without_effect) is (dest not in acting_dests())


def test_flags_that_act_exist() -> None:
    """The list has no name that is not a flag, and all of ours act."""
    assert acting_dests() <= set(FLAGS)
    assert {flag.dest for flag in OWN_FLAGS} <= acting_dests()


def test_results_share_no_mutable_default() -> None:
    """A value that is changed in place changes no later command line."""
    parsed("m").values["allowed_origins"].append("*")
    assert parsed("m").values["allowed_origins"] == []


@pytest.mark.parametrize(
    ("words", "host"),
    [("", "127.0.0.1"), ("--host None", "127.0.0.1"), ("--host 0.0.0.0", "0.0.0.0"), ("--host=::", "::")],  # noqa: S104 - only parsed
)
def test_nobody_listens_on_all_interfaces_unasked(words: str, host: str) -> None:
    """Without a host it is the loopback interface: the one default that is not vLLM's."""
    assert parsed("m", *words.split()).values["host"] == host


@pytest.mark.parametrize(("text", "expected"), [(None, False), ("0", False), ("1", True), ("yes", None)])
def test_the_development_mode_shows_stacks(text: str | None, expected: bool | None) -> None:  # noqa: FBT001 - a parameter of the test
    """VLLM_SERVER_DEV_MODE is the one variable that vLLM's parser reads."""
    ended = outcome(["m"], {} if text is None else {"VLLM_SERVER_DEV_MODE": text})
    if ended.arguments is None:
        assert expected is None
        assert "VLLM_SERVER_DEV_MODE" in ended.text
    else:
        assert ended.arguments.values["log_error_stack"] is expected


def test_adapters_are_read_in_both_forms() -> None:
    """`name=path`, and JSON with all fields."""
    arguments = parsed("m", "--lora-modules", "a=b=c", '{"name": "n", "path": "p", "base_model_name": "m"}')
    assert arguments.values["lora_modules"] == [
        LoRAModule(name="a", path="b=c"),
        LoRAModule(name="n", path="p", base_model_name="m"),
    ]


@pytest.mark.parametrize(
    ("argv", "config", "status", "part"),
    [
        (["m", "--enable-auto-tool-choice"], "", 1, "--enable-auto-tool-choice requires --tool-call-parser"),
        (["--served-model-name", "a"], "", 1, "first positional argument"),
        (["--config", "CONFIG.yaml"], "port: 1", 1, "No model specified"),
        (["m", "--config", "CONFIG.yaml"], "port: [", 1, "CONFIG.yaml"),
        (["m", "--config", "CONFIG.yaml"], "1: 2", 1, "1 is no name of a flag"),
        (["m", "--config", "CONFIG.yaml"], "- port", 1, "must be a YAML mapping"),
        (["m", "--config", "none.yaml"], "", 1, "cannot read none.yaml: No such file or directory"),
        (["m", "--no-such-flag"], "", 2, "unrecognized arguments: --no-such-flag"),
        (["m", "--scheduling-policy", "lifo"], "", 2, "argument --scheduling-policy: invalid choice: 'lifo'"),
        (["m", "--max-model-len", "8x"], "", 2, 'argument --max-model-len: "8x" is no whole number'),
        (["m", "--kv-events-config", '{"hvm": 1}'], "", 2, "argument --kv-events-config: hvm: "),
        (["m", "--kv-events-config.hwm=x"], "", 2, "argument --kv-events-config: hwm: "),
    ],
)
def test_errors_name_what_is_wrong(
    argv: list[str], config: str, status: int, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag, a file, a field; errors of ours are one line."""
    monkeypatch.chdir(tmp_path)
    Path("CONFIG.yaml").write_text(config, encoding="utf-8")
    ended = outcome(argv)
    assert ended.status == status
    assert part in ended.text
    assert status != TRACEBACK or "\n" not in ended.text
