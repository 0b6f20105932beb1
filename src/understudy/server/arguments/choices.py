"""From the command line to what an engine and its latency are made of."""

from dataclasses import fields
from typing import TypeVar

from understudy.errors import UsageError
from understudy.fleet.choices import EngineChoices, LatencyChoices
from understudy.server.arguments.result import ServeArguments

ChoicesT = TypeVar("ChoicesT", EngineChoices, LatencyChoices)


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


def _choices(kind: type[ChoicesT], arguments: ServeArguments) -> ChoicesT:
    """Return the choices of that kind; what vLLM leaves open keeps the default of the engine."""
    values = {field.name: arguments.values[field.name] for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if value is not None})
