"""What argparse does when it meets a flag: vLLM's actions, each of which notes that its flag was given."""

import argparse
from collections.abc import Sequence
from typing import Any

from understudy.server.arguments.flags import Flag
from understudy.server.arguments.result import LoRAModule
from understudy.server.arguments.values import json_value

MODEL_TAG = "model_tag"
"""The dest of the positional model."""


class Given(argparse.Namespace):
    """Values of the flags given, and under which name each was given last."""

    def __init__(self) -> None:
        super().__init__()
        self.names_given: dict[str, str] = {}

    def put(self, dest: str, value: object, name: str | None) -> None:
        """Set a value."""
        setattr(self, dest, value)
        self.names_given[dest] = name or dest

    def values(self) -> dict[str, Any]:
        """Return all values by dest."""
        return {dest: getattr(self, dest) for dest in self.names_given}


class _Action(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(namespace, Given)
        namespace.put(self.dest, self.value(parser, namespace, values, option_string), option_string)

    def value(
        self,
        _parser: argparse.ArgumentParser,
        _namespace: Given,
        values: Any,
        _option_string: str | None,
    ) -> Any:
        """Return what is stored."""
        return values


class Store(_Action):
    """Keep the value."""


class Append(_Action):
    """Add the value to those given before."""

    def value(
        self, _parser: argparse.ArgumentParser, namespace: Given, values: Any, _option_string: str | None
    ) -> list[Any]:
        """Return all values so far."""
        return [*getattr(namespace, self.dest, ()), values]


class Switch(_Action):
    """True, or False under one of the names that say no."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, negative: frozenset[str], **kwargs: Any
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, **kwargs)
        self._negative = negative

    def value(
        self, _parser: argparse.ArgumentParser, _namespace: Given, _values: Any, option_string: str | None
    ) -> bool:
        """Return whether the name says yes."""
        return option_string not in self._negative


class LoRAModules(_Action):
    """Read adapters; a wrong one is an error of the parser."""

    def value(
        self,
        parser: argparse.ArgumentParser,
        _namespace: Given,
        values: Any,
        _option_string: str | None,
    ) -> list[LoRAModule]:
        """Return the adapters."""
        return [_lora_module(parser, text) for text in values if text]


def _lora_module(parser: argparse.ArgumentParser, text: str) -> LoRAModule:
    if "=" in text and "," not in text:
        name, _, path = text.partition("=")
        return LoRAModule(name=name, path=path)
    try:
        return LoRAModule(**json_value(text))
    except TypeError as error:
        parser.error(f"Invalid fields for --lora-modules: {text} - {error}")
    except ValueError:
        parser.error(f"Invalid JSON format for --lora-modules: {text}")


def argument(flag: Flag) -> dict[str, Any]:
    """Return the action of a flag, as arguments of `ArgumentParser.add_argument`."""
    match flag.kind:
        case "switch" | "on":
            return {"action": Switch, "negative": frozenset(flag.negative_names)}
        case "append":
            return {"action": Append}
        case "lora":
            return {"action": LoRAModules}
        case _:
            return {"action": Store}
