"""From the command line to what an engine, its latency and its KV events are made of."""

from dataclasses import dataclass, fields
from typing import Literal, TypeVar

from understudy.errors import UsageError
from understudy.fleet.choices import EngineChoices, LatencyChoices
from understudy.server.arguments.result import ServeArguments

ChoicesT = TypeVar("ChoicesT", EngineChoices, LatencyChoices)


@dataclass(frozen=True, slots=True, kw_only=True)
class KVEventsChoices:
    """`--kv-events-config`: vLLM's fields and defaults; `hwm` is the queue of the ZeroMQ socket in messages."""

    enable_kv_cache_events: bool = False
    publisher: Literal["null", "zmq"] = "null"
    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    buffer_steps: int = 10_000
    hwm: int = 100_000
    max_queue_size: int = 100_000
    topic: str = ""

    @property
    def are_published(self) -> bool:
        """Whether events leave the server."""
        return self.enable_kv_cache_events and self.publisher == "zmq"


def engine_choices(arguments: ServeArguments) -> EngineChoices:
    """Return the engine's flags. Raises UsageError for what no engine can be made of."""
    choices = _choices(EngineChoices, arguments)
    for name in (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "block_size",
        "stream_interval",
    ):
        value = arguments.values[name]
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    return choices


def latency_choices(arguments: ServeArguments) -> LatencyChoices:
    """Return the constants of the latency model that were given."""
    return _choices(LatencyChoices, arguments)


def kv_events_choices(arguments: ServeArguments) -> KVEventsChoices | None:
    """Return what `--kv-events-config` says, None without it. Events that are on go to ZeroMQ unless told otherwise."""
    config = arguments.values["kv_events_config"]
    if config is None:
        return None
    publisher = "zmq" if config.get("enable_kv_cache_events") else "null"
    return KVEventsChoices(**({"publisher": publisher} | config))


def _choices(kind: type[ChoicesT], arguments: ServeArguments) -> ChoicesT:
    """Return the choices of that kind; what vLLM leaves open keeps the default of the engine."""
    values = {field.name: arguments.values[field.name] for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if value is not None})
