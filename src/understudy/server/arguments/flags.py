"""The flags of `vllm serve` 0.33 as data, which of them act here, and those of our own."""

from dataclasses import fields
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

import msgspec

from understudy.fleet.choices import LatencyChoices

OWN_GROUP = "understudy"
"""The group of the flags that vLLM does not have."""

DEFAULT_GPU = "h100"

Kind = Literal[
    "switch", "on", "text", "int", "float", "json", "count", "context", "config", "json_or_text", "lower",
    "device_ids", "reasoning_parser", "append", "lora", "gpu", "amount", "duration", "port", "path", "time_scale",
]  # fmt: skip

_DATA = files("understudy.server.arguments") / "data"
_INVERSE = {"--enable-": "--disable-", "--disable-": "--enable-"}


class Flag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One flag. `names` are those that set it, or switch it on; `dest` is where its value goes.

    `optional`: an empty value and "None" mean None. `config` names the fields of a JSON object. `help` says what one of
    our own does.
    """

    names: tuple[str, ...]
    kind: Kind
    config: str | None = None
    optional: bool = False
    nargs: Literal["+", "?"] | None = None
    const: Any = None
    choices: tuple[Any, ...] | None = None
    default: Any = None
    help: str = ""

    @cached_property
    def name(self) -> str:
        """The long name."""
        return next(name for name in self.names if name.startswith("--"))

    @cached_property
    def dest(self) -> str:
        """The long name, as an identifier."""
        return self.name.removeprefix("--").replace("-", "_")

    @cached_property
    def negative_names(self) -> tuple[str, ...]:
        """All names that switch it off; `--no-enable-x` and `--no-disable-x` are among them but not in `--help`."""
        return (*self._no_names, *self._paired_names)

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The names in `--help`: `--enable-x, --disable-x` or `--x, --no-x`."""
        return (*self.names, *(self._paired_names or self._no_names))

    @property
    def _no_names(self) -> tuple[str, ...]:
        return tuple(f"--no-{name.removeprefix('--')}" for name in self._switch_names)

    @property
    def _paired_names(self) -> tuple[str, ...]:
        return tuple(
            inverse + name.removeprefix(prefix)
            for name in self._switch_names
            for prefix, inverse in _INVERSE.items()
            if name.startswith(prefix)
        )

    @property
    def _switch_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if self.kind == "switch" and name.startswith("--"))


FieldType = str | tuple[Any, ...]
"""JSON types joined by `|`, or the values that a field can have."""


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Flags that `--help` shows together."""

    title: str
    flags: tuple[Flag, ...]


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All flags, and the fields of those that take a JSON object."""

    origin: str
    groups: tuple[Group, ...]
    configs: dict[str, dict[str, FieldType]]


def read_catalogue() -> Catalogue:
    """Return vLLM's flags, with ours as the last group. Each call returns defaults of its own."""
    data = (_DATA / "vllm-0.33-flags.json").read_bytes()
    vllm = msgspec.json.decode(data, type=Catalogue)
    return Catalogue(vllm.origin, (*vllm.groups, Group(OWN_GROUP, OWN_FLAGS)), vllm.configs)


def acting_dests() -> frozenset[str]:
    """Return the dests of the flags that change what our server does; all others are accepted."""
    data = (_DATA / "acting-flags.json").read_bytes()
    return frozenset(msgspec.json.decode(data, type=list[str])) | {flag.dest for flag in OWN_FLAGS}


_LATENCY_HELP = {
    "prefill_base_seconds": "latency of a prompt of which something must be computed",
    "prefill_cached_seconds": "latency in its place where all full blocks are cached",
    "prefill_seconds_per_block": "latency of each block of a prompt to compute",
    "decode_seconds_per_step": "latency of a step in which anything decodes",
}

OWN_FLAGS: tuple[Flag, ...] = (
    Flag(names=("--gpu",), kind="gpu", default=DEFAULT_GPU, help="the GPU whose memory and speed are played"),
    Flag(
        names=("--time-scale",),
        kind="time_scale",
        default=1.0,
        help="0.1 is ten times faster than life, 0 waits for nothing",
    ),
    Flag(
        names=("--generator",),
        kind="text",
        choices=("dummy", "echo", "dataset", "transformers"),
        default="dummy",
        help="what is said: random words, the prompt, answers of a file, what a small model says",
    ),
    Flag(names=("--generator-dataset",), kind="path", help="the file of JSON lines for the dataset"),
    Flag(names=("--generator-model",), kind="path", help="the folder of the small model for transformers"),
    Flag(
        names=("--output-length",),
        kind="text",
        default="auto",
        help="how long answers are: auto, max-tokens, fixed:200, uniform:50-200, normal:200,50, "
        "lognormal:200,0.6, exponential:200 or dataset",
    ),
    Flag(
        names=("--startup",),
        kind="duration",
        default=0.0,
        help="how long the model loads and connections are refused, such as 30s",
    ),
    Flag(names=("--faults",), kind="path", help="the plan of faults, in YAML or JSON"),
    Flag(
        names=("--admin-port",), kind="port", help="the port on 127.0.0.1 for faults, crashes and the state"
    ),
    Flag(
        names=("--enable-kv-blocks-endpoint",),
        kind="switch",
        default=False,
        help="GET /kv_blocks lists all cached blocks, for routers that have missed KV events or get none",
    ),
    Flag(
        names=("--auth-compat",),
        kind="text",
        choices=("strict", "vllm"),
        default="strict",
        help="what needs an API key: all but probes and metrics, or only what vLLM guards",
    ),
    Flag(
        names=("--simulated-time-headers",),
        kind="switch",
        default=False,
        help="answers tell the engine's times in their headers",
    ),
    *(
        Flag(
            names=(f"--{field.name.replace('_', '-')}",),
            kind="amount",
            default=field.default,
            help=f"{_LATENCY_HELP[field.name]}; None: the model's on the GPU",
        )
        for field in fields(LatencyChoices)
    ),
)
