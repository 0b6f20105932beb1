"""Command lines of `vllm serve`, good and bad: for each flag, and for each rule of the parser."""

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

SEED = 33


class CommandLine(NamedTuple):
    """The words after `serve`, and what CONFIG.yaml holds, if anything."""

    argv: list[str]
    config: str | None = None


CONFIG_VALUES: Mapping[str, str] = {
    "QuantizationConfigArgs": '{"ignore": ["lm_head"]}',
    "PoolerConfig": '{"use_activation": false}',
    "EPLBConfig": '{"window_size": 20, "use_async": "no"}',
    "FaultToleranceConfig": '{"engine_recovery_timeout_sec": 2k}',
    "LoggingConfig": '{"log_level": "DEBUG", "formatter": "json"}',
    "IrOpPriorityConfig": '{"rms_norm": ["native"]}',
    "KVTransferConfig": '{"kv_connector": "NixlConnector", "kv_role": "kv_both", "engine_id": "a"}',
    "KVEventsConfig": '{"enable_kv_cache_events": true, "publisher": "zmq", "buffer_steps": 1k, "topic": "4k"}',
    "ECTransferConfig": '{"ec_connector": "ECExampleConnector", "ec_role": "ec_both", "engine_id": "a"}',
    "EncoderCacheManagerConfig": '{"encoder_cache_manager_cls": "package.module.Class"}',
    "CompilationConfig": '{"compile_mm_encoder": true}',
    "AttentionConfig": '{"flash_attn_version": 3}',
    "EngramConfig": '{"cpu_offload": false}',
    "ReasoningConfig": '{"reasoning_parser": "qwen3"}',
    "KernelConfig": '{"enable_jit_warmup": false}',
    "StructuredOutputsConfig": '{"backend": "guidance"}',
    "AuxOutputConfig": '{"max_bytes": 5k}',
    "ProfilerConfig": '{"profiler": "torch", "torch_profiler_dir": "/tmp/traces"}',
    "WatchdogConfig": '{"timeout": 1e2}',
    "WeightTransferConfig": '{"backend": "ipc"}',
}
GOOD: Mapping[str, tuple[str, ...]] = {
    "text": ("some", "a b", "1", "x=y"),
    "int": ("3", "1_000", " 7 "),
    "float": ("0.5", "1e-3", "2", "inf"),
    "json": ('{"a": {"b": [1, 2.5, null]}}', "{}", '{"d": true}'),
    "count": ("8k", "8K", "25.6k", "1M", "2g", "512"),
    "context": ("auto", "-1", "8k", "AUTO", "1.5m", "4096"),
    "json_or_text": ('{"a": 1}', "plain", " {} "),
    "reasoning_parser": ("qwen3", "None", "none"),
    "device_ids": ("0,1", "2, GPU-abc"),
    "append": ("a.b.C",),
    "lora": ("sql=/adapters/sql", '{"name": "n", "path": "p", "base_model_name": "b"}'),
}
BAD: Mapping[str, tuple[str, ...]] = {
    "int": ("x", "1.5", "4k", ""),
    "float": ("x", "1k", ""),
    "json": ("{", "nope", ""),
    "count": ("8x", "1.5K", "k"),
    "context": ("automatic", "1.5M"),
    "json_or_text": ("{bad}",),
    "lora": ("just-a-name", "{}", '{"name": "n", "path": "p", "other": 1}', '{"name": "n"'),
    "config": ("{", "[]", '{"no_such_field": 1}', "text"),
}


class VllmFlag(NamedTuple):
    """A flag: its entry in the data file of flags, and all its names in vLLM's parser."""

    dest: str
    entry: Mapping[str, Any]
    all_names: tuple[str, ...]


def command_lines(flags: Iterable[VllmFlag]) -> list[CommandLine]:
    """Return all of them, always the same."""
    chance = random.Random(SEED)
    return [
        *_rules(),
        *(line for flag in flags if flag.dest not in _APART for line in _of_flag(flag, chance)),
    ]


_APART = {"grpc", "model", "config", "grpc_port", "data_parallel_multi_port_external_lb", "headless"}
"""They decide about the whole command line, so `_RULES` has them where we do as vLLM does."""
_NEEDS: Mapping[str, list[str]] = {
    "enable_auto_tool_choice": ["--tool-call-parser", "hermes"],
    "enable_log_outputs": ["--enable-log-requests"],
}
_GOOD_OF_FLAG: Mapping[str, tuple[str, ...]] = {
    "chat_template": ("{{ messages }}", "{%- if true -%}x{%- endif -%}"),
    "reasoning_effort_map": ('{"medium": "low"}',),
    "linear_backend": ("cutlass", "Deep-Gemm"),
    "moe_backend": ("triton", "Deep-Gemm"),
}


def _of_flag(flag: VllmFlag, chance: random.Random) -> Iterator[CommandLine]:
    needed = _NEEDS.get(flag.dest, [])
    name, nargs, kind = f"--{flag.dest.replace('_', '-')}", flag.entry.get("nargs"), flag.entry["kind"]
    if kind in {"switch", "on"}:
        for any_name in flag.all_names:
            yield CommandLine(["m", any_name, *needed])
        yield CommandLine(["m", f"{name}=true", *needed])
        return
    good = _good(flag)
    more = [chance.choice(good)] if nargs == "+" else []
    spelled = chance.choice((name, f"--{flag.dest}"))
    yield CommandLine(["m", chance.choice(flag.all_names), chance.choice(good), *more, *needed])
    yield CommandLine(["m", f"{spelled}={chance.choice(good)}", *needed])
    bad = ("no-such-choice",) if "choices" in flag.entry else BAD.get(kind, ())
    if bad:
        yield CommandLine(["m", spelled, chance.choice(bad), *needed])
    if flag.entry.get("optional"):
        yield CommandLine(["m", name, chance.choice(("None", "")), *needed])
    if nargs != "?":
        yield CommandLine(["m", name])


def _good(flag: VllmFlag) -> tuple[str, ...]:
    if flag.dest in _GOOD_OF_FLAG:
        return _GOOD_OF_FLAG[flag.dest]
    if "choices" in flag.entry:
        return tuple(str(choice) for choice in flag.entry["choices"])
    if "config" in flag.entry:
        return (CONFIG_VALUES[flag.entry["config"]],)
    return GOOD[flag.entry["kind"]]


def _rules() -> Iterator[CommandLine]:
    for words in _RULES:
        yield CommandLine(_split(words))
    for words, config in _CONFIG_FILES:
        yield CommandLine(_split(words), config)


def _split(words: Any) -> list[str]:
    return words.split() if isinstance(words, str) else list(words)


_RULES: tuple[str | list[str], ...] = (
    # the model
    "",
    "m",
    "m n",
    "--model m",
    "--model=m",
    "--model",
    "--model=",
    "--port 1 --model m --tensor-parallel-size 2",
    "m --model n",
    "--model m --model n",
    "--port 8001 m",
    "--enforce-eager m",
    "m --port 8001 n",
    "--served-model-name a",
    "--served_model_name=a b",
    "m --served-model-name a b c",
    "--served-model-name a --model m",
    "--port 1 --served-model-name a",
    "--config=CONFIG.yaml --served-model-name a",
    "-- m",
    "m -- --port",
    # names
    "m --max_model_len 100",
    "m --max_model-len=100",
    "m --tensor_parallel_size=2",
    "m --max-model 100",
    "m --max-mod=100",
    "m --max-num 3",
    "m --max 3",
    "m --no",
    "m --enf",
    "m --no-enf",
    "m --no-enable-pref",
    "m --enable-pref",
    "m --disable-pref",
    "m --gpu-mem 0.5",
    "m --por 1",
    "m --MAX-MODEL-LEN 1",
    "m ---port 1",
    "m -tp 2 -pp 3 -dp 4 -asc 5",
    "m -tp=2",
    "m -tp2",
    "m -t 2",
    "m -d 2",
    "m -n 2",
    "m -n2",
    "m -n=2",
    "m -r -1",
    "m -q awq",
    "m -qawq",
    "m -ep",
    "m -dph -dpe",
    "m -x",
    "m -v",
    # unknown, removed and not for serve
    "m --no-such-flag",
    "m --no-such-flag 3",
    "m --no-such-flag=3",
    "m --swap-space 4",
    "m --max-num-partial-prefills 2",
    "m --max-long-partial-prefills 2",
    "m --task embed",
    "m --use-v2-block-manager",
    "m --num-lookahead-slots 1",
    "m --disable-log-requests",
    "m --guided-decoding-backend xgrammar",
    "m --version",
    "m --no-port",
    "m --no-headless",
    "m --disable-enforce-eager",
    # the last one wins
    "m --port 1 --port 2",
    "m --enable-prefix-caching --no-enable-prefix-caching",
    "m --disable-prefix-caching --enable-prefix-caching",
    "m --no-disable-prefix-caching",
    "m --middleware a --middleware b",
    "m --api-key a b --api-key c",
    "m --lora-modules a=b c=d",
    ["m", "--lora-modules", "a=b", ""],
    ["m", "--lora-modules", "[]"],
    "m --lora-modules",
    # numbers and choices
    "m --watermark -0.5",
    "m --watermark=-0.5",
    "m --seed -1",
    "m --port -1",
    "m --max-model-len -1",
    "m --max-model-len -2",
    "m --max-model-len 1e3",
    "m --max-num-seqs 4k",
    "m --max-num-batched-tokens 4K",
    "m --max-num-batched-tokens 4.5k",
    "m --max-num-batched-tokens 4.5K",
    "m --kv-cache-memory-bytes 1G",
    "m --max-num-queued-tokens None",
    "m --gpu-memory-utilization nan",
    "m --scheduling-policy FCFS",
    "m --max-lora-rank 17",
    "m --max-lora-rank 64",
    "m --moe-backend Deep-Gemm",
    "m --dcp-comm-backend None",
    "m --hf-token",
    "m --hf-token abc",
    "m --reasoning-parser NONE",
    "m --cudagraph-capture-sizes 1 2 x",
    "m --collect-detailed-traces model worker",
    "m --collect-detailed-traces model gpu",
    # -O
    "m -O3",
    "m -O=2",
    "m -O 1",
    "m -O",
    "m -O 4",
    "m -Odecode",
    "m -O=",
    "m --optimization_level 0",
    # JSON by keys
    "m --kv-events-config.enable_kv_cache_events true",
    "m --kv_events_config.enable_kv_cache_events=true --kv-events-config.topic a.b",
    "m --kv-events-config.buffer_steps 2k --kv-events-config.enable-kv-cache-events true",
    "m --kv-events-config.hwm 2K --kv-events-config.endpoint tcp://*:5558",
    "m --kv-events-config.publisher kafka",
    "m --kv-events-config.topic",
    ["m", "--kv-events-config", '{"topic": "a"}', "--kv-events-config.hwm", "5"],
    ["m", "--kv-events-config", '{"enable_kv_cache_events": "yes", "hwm": "12"}'],
    ["m", "--kv-events-config", '{"enable_kv_cache_events": 2}'],
    ["m", "--kv-events-config", '{"hwm": 1.5}'],
    ["m", "--kv-events-config", '{"hwm": null}'],
    ["m", "--kv-events-config", '{"replay_endpoint": null, "topic": "x"}'],
    ["m", "--kv-events-config", '{"enable_kv_cache_events": true, "publisher": "null"}'],
    ["m", "--kv-events-config", ""],
    "m --kv-events-config None",
    "m --override-generation-config.temperature 0.5 --override-generation-config.top_k 5",
    "m --override-generation-config.a.b+ x --override-generation-config.a.b+ y,z",
    "m --override-generation-config.a+=x,y --override-generation-config.a+ z",
    "m --override-generation-config.a 1 --override-generation-config.a 2",
    "m --override-generation-config.a.b 1 --override-generation-config.a.c 2 --override-generation-config.a 3",
    "m --override-generation-config.a [1] --override-generation-config.a [2,3]",
    "m --override-generation-config.a NaNa --override-generation-config.b 1.5k",
    "m --override-generation-config.a. 1",
    "m --hf-overrides.x.y 1_000",
    "m --default-chat-template-kwargs.enable_thinking false",
    "m --port.a 1",
    "m --no-such.a 1",
    "m -cc.compile_mm_encoder true",
    "m -cc.no_such_field 3",
    "m -sc.method ngram -sc.num_speculative_tokens 3",
    "m --allowed-origins.a 1",
    ["m", "--allowed-origins", '["*"]'],
    ["m", "--allowed-methods", "GET"],
    ["m", "--additional-config", '{"a": 1}'],
    ["m", "--additional-config", "{'a': 1}"],
    ["m", "--chat-template", "{{ x }}"],
    ["m", "--ssl-keyfile", "a.b", "--root-path=/x.y"],
    # what goes together
    "m --enable-auto-tool-choice",
    "m --enable-auto-tool-choice --tool-call-parser hermes",
    "m --enable-log-outputs",
    "m --enable-log-outputs --enable-log-requests",
    "m --sse-keep-alive-interval -1",
    "m --sse-keep-alive-interval 5",
    "m --enable-per-request-metrics --disable-log-stats",
    "m --chat-template /no/such/file.jinja",
    "m --grpc-port 50051",
    ["m", "--reasoning-effort-map", '{"medium": 1}'],
    ["m", "--reasoning-effort-map", '{"middle": "low"}'],
    ["m", "--reasoning-effort-map", "[]"],
    "m --headless",
    "m --headless --api-server-count 2",
    "m --headless --api-server-count 0",
    "m --data-parallel-rank 1 --data-parallel-hybrid-lb",
    "m --data-parallel-external-lb --data-parallel-start-rank 1",
    "m --data-parallel-rank 1 --data-parallel-external-lb",
    # help
    "-h",
    "--help",
    "m --hel",
    "--help=all",
    "--help=ModelConfig",
    "--help=max_model_len",
    "--help=nothing-of-that-name",
    "m --port x --help",
    "--help --port x",
)
_CONFIG_FILES: tuple[tuple[str, str], ...] = (
    ("--config CONFIG.yaml", "model: m\nport: 12323\ntensor-parallel-size: 4\n"),
    ("m --config CONFIG.yaml", "model: n\nport: 12323\n"),
    ("m --config CONFIG.yaml --port 1", "port: 2\n"),
    ("m --port 1 --config CONFIG.yaml", "port: 2\n"),
    ("--config CONFIG.yaml -tp 2", "model: m\ntensor_parallel_size: 4\n"),
    ("--config CONFIG.yaml m", "port: 2\n"),
    ("--config CONFIG.yaml m", "model: n\n"),
    ("--config CONFIG.yaml", "port: 2\n"),
    ("--model m --config CONFIG.yaml", "port: 2\n"),
    ("m --config=CONFIG.yaml", "port: 2\n"),
    ("m --config CONFIG.yaml --config CONFIG.yaml", "port: 2\n"),
    ("m --config", "port: 2\n"),
    ("m --config CONFIG.json", "port: 2\n"),
    ("m --config /no/such/file.yaml", "port: 2\n"),
    ("m --config CONFIG.yaml", ""),
    ("m --config CONFIG.yaml", "- port\n"),
    ("m --config CONFIG.yaml", "port: [\n"),
    ("m --config CONFIG.yaml", "1: 2\n"),
    ("m --config CONFIG.yaml", "enable-prefix-caching: false\n"),
    ("m --config CONFIG.yaml", "enable-prefix-caching: true\nenforce-eager: true\n"),
    ("m --config CONFIG.yaml", "enforce-eager: false\nno-such-flag: false\n"),
    ("m --config CONFIG.yaml", "no-enable-prefix-caching: true\n"),
    ("m --config CONFIG.yaml", "disable-log-stats: yes\nport: '8001'\n"),
    ("m --config CONFIG.yaml", "served-model-name: [a, b]\napi-key: []\n"),
    ("m --config CONFIG.yaml", "served-model-name:\n- a\n- 3\n- true\n"),
    ("m --config CONFIG.yaml", "lora-modules: [a=b, c=d]\n"),
    ("m --config CONFIG.yaml", "allowed-origins: ['*']\n"),
    ("m --config CONFIG.yaml", "kv-events-config:\n  enable_kv_cache_events: true\n  topic: x\n"),
    ("m --config CONFIG.yaml --kv-events-config.hwm 7", "kv_events_config:\n  topic: x\n"),
    ("m --config CONFIG.yaml", "kv-events-config.topic: x\n"),
    ("m --config CONFIG.yaml", "override-generation-config:\n  temperature: 0.5\n  when: 2020-01-01\n"),
    ("m --config CONFIG.yaml", "api-key: null\nmax-num-seqs: ~\n"),
    ("m --config CONFIG.yaml", "api-key: null\nhost: ~\n"),
    ("m --config CONFIG.yaml", "no-such-flag: 1\n"),
    ("m --config CONFIG.yaml", "no-such-flag: true\n"),
    ("m --config CONFIG.yaml", "port: x\n"),
    ("m --config CONFIG.yaml", "max-model-len: 8k\ngpu_memory_utilization: 0.5\n"),
    ("m --config CONFIG.yaml", "max-model: 100\nO3: true\n"),
    ("m --config CONFIG.yaml", "config: other.yaml\nport: 3\n"),
)
