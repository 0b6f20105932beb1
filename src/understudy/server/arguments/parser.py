"""Parse the command line of `vllm serve` 0.33 as vLLM parses it, with a group of flags of our own."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.errors import UsageError
from understudy.server.arguments.actions import MODEL_TAG, Given, Store, argument
from understudy.server.arguments.checks import check
from understudy.server.arguments.command_line import plain_words
from understudy.server.arguments.config_file import read_config_file
from understudy.server.arguments.effect import without_effect
from understudy.server.arguments.flags import OWN_FLAGS, Catalogue, acting_dests, read_catalogue
from understudy.server.arguments.help import help_text
from understudy.server.arguments.result import ServeArguments
from understudy.server.arguments.values import reader_of

PROGRAM = "understudy serve"
DEFAULT_HOST = "127.0.0.1"
"""Where we listen if no host is given. vLLM listens on all interfaces, which nobody should do unasked."""


def parse_serve_arguments(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> ServeArguments:
    """Return what the words after `serve` say.

    Raises SystemExit(2), with the usage and a message on standard error, for unknown flags and bad values;
    SystemExit(0) after `--help`. Raises UsageError for flags that do not go together and InputError for a bad
    config file: there vLLM ends with a traceback and status 1.
    """
    catalogue, acting = read_catalogue(), acting_dests()
    words = plain_words(argv, read_config_file)
    given = _Parser(catalogue, acting).parse(words)
    flags = {flag.dest: flag for group in catalogue.groups for flag in group.flags}
    values = {dest: flag.default for dest, flag in flags.items()}
    values["log_error_stack"] = _is_development(environment)
    values |= given.values()
    model_tag = values.pop(MODEL_TAG, None)
    if model_tag is not None:
        values["model"] = model_tag
    if values["host"] is None:
        values["host"] = DEFAULT_HOST
    check(values)
    names = {"model" if dest == MODEL_TAG else dest: name for dest, name in given.names_given.items()}
    return ServeArguments(
        values=values,
        given=frozenset(names),
        without_effect=without_effect(names, values, acting),
    )


def _is_development(environment: Mapping[str, str]) -> bool:
    """Return vLLM's default of `--log-error-stack`."""
    text = environment.get("VLLM_SERVER_DEV_MODE", "0")
    try:
        return bool(int(text))
    except ValueError:
        raise UsageError(f"VLLM_SERVER_DEV_MODE must be 0 or 1, got {text!r}") from None


class _Parser(argparse.ArgumentParser):
    """Knows all flags. Only vLLM's can be abbreviated, so ours make none of its abbreviations ambiguous."""

    def __init__(self, catalogue: Catalogue, acting: frozenset[str]) -> None:
        super().__init__(prog=PROGRAM, usage=f"{PROGRAM} [model_tag] [options]")
        self._catalogue = catalogue
        self._acting = acting
        self._keyword: str | None = None
        self._own_names = {name for flag in OWN_FLAGS for name in (*flag.names, *flag.negative_names)}
        self.add_argument(MODEL_TAG, nargs="?", action=Store, default=argparse.SUPPRESS)
        for flag in (flag for group in catalogue.groups for flag in group.flags):
            reading: dict[str, Any] = {}
            if flag.kind not in {"switch", "on"}:
                reading = {
                    "type": reader_of(flag, catalogue.configs),
                    "nargs": flag.nargs,
                    "const": flag.const,
                    "choices": flag.choices,
                }
            self.add_argument(
                *flag.names,
                *dict.fromkeys(flag.negative_names),
                dest=flag.dest,
                default=argparse.SUPPRESS,
                **argument(flag),
                **reading,
            )

    def parse(self, words: Sequence[str]) -> Given:
        """Return what was given; exits as argparse does."""
        plain: list[str] = []
        for word in words:
            flag, _, keyword = word.partition("=")
            if flag == "--help" and word != flag:
                self._keyword = keyword
            plain.append(flag if flag == "--help" else word)
        return self.parse_args(plain, Given())

    def format_help(self) -> str:
        """Return the text of `--help`, `--help=all`, `--help=GROUP` or `--help=FLAG`."""
        return help_text(self._catalogue, self._acting, self.format_usage(), self._keyword)

    def _get_option_tuples(self, option_string: str) -> list[tuple[argparse.Action, str, str | None]]:
        found = super()._get_option_tuples(option_string)
        return [match for match in found if match[1] not in self._own_names]
