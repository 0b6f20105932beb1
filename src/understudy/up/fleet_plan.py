"""Which processes there are: the name and the command line of each worker. Nothing is started here."""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from understudy.catalog import load_gpu, load_model
from understudy.errors import UsageError
from understudy.gateway.settings import RouteSettings
from understudy.server.arguments import ServeArguments, parse_serve_arguments
from understudy.server.faults import FaultPlan, load_fault_plan
from understudy.up.profile import Group, flag_words

MAX_WORKERS = 1024
HOST = "127.0.0.1"

_LAST_PORT = 65_535
_KV_EVENTS = {"enable_kv_cache_events": True, "endpoint": "tcp://*:0", "replay_endpoint": "tcp://*:0"}
"""Ports that the system chooses, on the address that VLLM_HOST_IP names; the worker tells which they are."""

_GIVEN_TO_UP = frozenset(
    (
        "model",
        "gpu",
        "time_scale",
        "startup",
        "block_size",
        "prefix_caching_hash_algo",
        "tokenizer",
        "chat_template",
    )
)
"""Flags of workers, by dest, that `understudy up` has too: a group says them by keys, or the router must know them."""

_CHOSEN_BY_UP = frozenset(
    (
        "host",
        "port",
        "uds",
        "api_key",
        "admin_port",
        "kv_events_config",
        "enable_kv_blocks_endpoint",
        "uvicorn_log_level",
        "enable_ssl_refresh",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_ciphers",
        "ssl_keyfile",
    )
)
"""Flags of workers, by dest, that decide how the router reaches them and what is read from their logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What holds for all workers whose group says nothing else. `base_port` None: any free ports.

    `worker_flags` are words for each command line; `admin`: each worker has an admin port; `log_level`: of their logs.
    """

    model: str
    gpu: str
    time_scale: float
    startup: str
    worker_flags: tuple[str, ...] = ()
    base_port: int | None = None
    admin: bool = False
    log_level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """One process: `words` follow `understudy`. `models` are the names that it serves."""

    name: str
    words: tuple[str, ...]
    models: tuple[str, ...]
    gpu: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """All processes. `environment` holds the variables that they get, None for those they must not have."""

    workers: tuple[WorkerPlan, ...]
    environment: Mapping[str, str | None]
    tokenizer: str | None
    """What the router is to tokenize with."""


def plan_fleet(
    groups: Sequence[Group], options: FleetOptions, settings: RouteSettings, folder: Path
) -> FleetPlan:
    """Return the plan; plans of faults are written into `folder`.

    Raises UsageError and InputError for what a worker would refuse, as far as that can be told before it runs.
    """
    num_workers = sum(group.count for group in groups)
    if not 1 <= num_workers <= MAX_WORKERS:
        raise UsageError(f"the number of workers must be from 1 to {MAX_WORKERS}, got {num_workers}")
    first_port = options.base_port
    if first_port is not None and not 1 <= first_port <= _LAST_PORT + 1 - num_workers:
        raise UsageError(
            f"--base-port must be from 1 to {_LAST_PORT + 1 - num_workers} for {num_workers} workers, got {first_port}"
        )
    workers: list[WorkerPlan] = []
    folders = set()
    for group in groups:
        prepared = _PreparedGroup(group, options, settings, folder)
        folders.add(prepared.tokenizer)
        for number in range(group.count):
            port = 0 if first_port is None else first_port + len(workers)
            workers.append(prepared.worker(number, port))
    return FleetPlan(
        workers=tuple(workers),
        environment=_environment(settings),
        tokenizer=folders.pop() if len(folders) == 1 else settings.tokenizer,
    )


class _PreparedGroup:
    """A group whose command line was found to be good."""

    def __init__(self, group: Group, options: FleetOptions, settings: RouteSettings, folder: Path) -> None:
        self._group = group
        self._model = group.model or options.model
        self._gpu = group.gpu or options.gpu
        self._options = options
        load_model(self._model)
        load_gpu(self._gpu)
        given = [*options.worker_flags, *flag_words(group.flags)]
        _check(_given(self._model, given, group.name))
        self._words = ["serve", self._model, *given, *self._own_words(settings, folder)]
        values = _parsed(self._words[1:], group.name).values
        self._models = tuple(values["served_model_name"] or (self._model,))
        self.tokenizer = settings.tokenizer or _tokenizer_of(self._model)

    def worker(self, number: int, port: int) -> WorkerPlan:
        """Return the plan of one worker of this group; port 0 for any that is free."""
        return WorkerPlan(
            name=f"{self._group.name}-{number}",
            words=(*self._words, "--port", str(port)),
            models=self._models,
            gpu=self._gpu,
        )

    def _own_words(self, settings: RouteSettings, folder: Path) -> list[str]:
        group, options = self._group, self._options
        scale = options.time_scale if group.time_scale is None else group.time_scale
        startup = options.startup if group.startup is None else str(group.startup)
        words = ["--host", HOST, "--gpu", self._gpu, "--time-scale", str(scale), "--startup", startup]
        words += ["--block-size", str(settings.block_size)]
        words += ["--prefix-caching-hash-algo", settings.prefix_caching_hash_algo]
        words += ["--kv-events-config", json.dumps(_KV_EVENTS)]
        words += ["--enable-kv-blocks-endpoint", "--enable-prompt-tokens-details"]
        words += ["--uvicorn-log-level", "debug" if options.log_level == "debug" else "info"]
        if settings.tokenizer is not None:
            words += ["--tokenizer", settings.tokenizer]
        if settings.chat_template is not None:
            words += ["--chat-template", settings.chat_template]
        if group.served_model_name is not None:
            names = group.served_model_name
            words += ["--served-model-name", *([names] if isinstance(names, str) else names)]
        if group.faults is not None:
            words += ["--faults", str(_fault_file(group.name, group.faults, folder))]
        if options.admin:
            words += ["--admin-port", "0"]
        return words


def _check(given: frozenset[str]) -> None:
    """Raise UsageError for flags that are not a worker's own choice."""
    if elsewhere := sorted(given & _GIVEN_TO_UP):
        raise UsageError(
            f"{', '.join(map(_flag, elsewhere))}: give it to `understudy up` itself, before the --, or by a key of a "
            "profile's group if it has one"
        )
    if chosen := sorted(given & _CHOSEN_BY_UP):
        raise UsageError(f"{', '.join(map(_flag, chosen))}: chosen by `understudy up` for each worker")


def _parsed(words: Sequence[str], group: str) -> ServeArguments:
    """Return what `understudy serve` would understand; raises UsageError with what it would say."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse_serve_arguments(words)
    except SystemExit as left:
        if not left.code:
            raise UsageError(
                "flags of workers are explained by `understudy serve --help`; --help goes before the --"
            ) from None
        reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UsageError(f"the flags of {group} cannot be served: {reason}") from None


def _given(model: str, words: Sequence[str], group: str) -> frozenset[str]:
    """Return the dests of the flags that stand in words which follow the model."""
    if any(word.partition("=")[0] == "--model" for word in words):
        return frozenset(["model"])
    return _parsed([model, *words], group).given - {"model"}


def _flag(dest: str) -> str:
    return f"--{dest.replace('_', '-')}"


def _tokenizer_of(model: str) -> str | None:
    """Return the model's folder if it has a tokenizer; workers take that one then."""
    return model if (Path(model) / "tokenizer.json").is_file() else None


def _fault_file(name: str, faults: FaultPlan | str, folder: Path) -> Path:
    if isinstance(faults, str):
        load_fault_plan(Path(faults))
        return Path(faults)
    path = folder / f"{name}-faults.json"
    path.write_bytes(msgspec.json.encode(faults))
    return path


def _environment(settings: RouteSettings) -> dict[str, str | None]:
    return {
        "VLLM_HOST_IP": HOST,
        # The router would not know this key, and nobody else reaches a worker without knowing its port.
        "VLLM_API_KEY": None,
        "PYTHONHASHSEED": settings.hash_seed,
    }
