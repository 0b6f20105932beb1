"""`understudy route`: the router in front of vLLM servers. Flags, the environment, a file: the first that says it counts."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env, Yaml
from rich.console import Console
from rich.table import Table

from understudy.cli.event_loop import run_on_fast_loop
from understudy.cli.status import SUCCESS
from understudy.cli.user_policy import load_user_policy
from understudy.errors import InputError, UsageError
from understudy.gateway.fleet import Policy
from understudy.gateway.router import Router, Sources
from understudy.gateway.settings import RouteSettings
from understudy.routing import load_policy

if TYPE_CHECKING:
    from rich.console import RenderableType

ENVIRONMENT_PREFIX = "UNDERSTUDY_ROUTE_"
HEARD_SECONDS = 10.0
"""How long --explain waits to hear of all workers."""


def route(words: Sequence[str]) -> int:
    """Route until interrupted; `words` are those after `route`."""
    parsed = _App(words).parse()
    if parsed is None:
        return SUCCESS
    settings, explained = parsed
    if not (settings.worker or settings.workers_file or settings.admin_port is not None):
        raise UsageError("route needs a --worker, a --workers-file, or an --admin-port to add workers by")
    _configure_log()
    sources = sources_of(lambda: _reread(words))
    if explained is not None:
        document = run_on_fast_loop(_explained(settings, sources, explained))
        _show(document)
        return SUCCESS
    from understudy.gateway.serve import serve  # noqa: PLC0415 - after --help

    run_on_fast_loop(serve(settings, sources))
    return SUCCESS


def sources_of(reread: Any) -> Sources:
    """Return what a router needs of the command line; `reread` returns the settings as they are by then."""
    return Sources(policy=policy_named, settings=reread)


def policy_named(name: str) -> Policy:
    """Return a policy by its name, or one of the user's by FILE.py:FUNCTION; raises UsageError."""
    is_own = ":" in name or name.endswith(".py")
    return Policy(name, load_user_policy(name) if is_own else load_policy(name))


class _App:
    """One command line of `understudy route`."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        file = _value_of("--config", self._words)
        config: list[Any] = [Env(ENVIRONMENT_PREFIX, command=False)]
        if file is not None:
            config.append(Yaml(_checked(Path(file)), must_exist=True, use_commands_as_keys=False))
        self._app = App(
            name="understudy route",
            help="Route requests to vLLM servers, real or emulated, by what their caches hold. SIGHUP, or the admin API, reads "
            f"the file and the environment ({ENVIRONMENT_PREFIX}POLICY, ...) again.",
            config=config,
            version_flags=(),
        )
        self._app.default(_parsed)

    def parse(self) -> tuple[RouteSettings, str | None] | None:
        """Return the settings and the prompt to explain; None where only help was asked for. Raises what cyclopts does."""
        parsed: tuple[RouteSettings, str | None] | None = self._app(
            self._words, exit_on_error=False, print_error=False, result_action="return_value"
        )
        return parsed


def _parsed(
    *,
    config: Path | None = None,
    explain: str | None = None,
    settings: Annotated[RouteSettings, Parameter(name="*")] = RouteSettings(),
) -> tuple[RouteSettings, str | None]:
    """Route requests.

    Parameters
    ----------
    config
        YAML file with any of these flags, by their names without the dashes.
    explain
        A prompt: print what each policy would choose for it and why, and exit.
    """
    del config  # it was read before
    return settings, explain


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")


def _checked(file: Path) -> Path:
    if not file.is_file():
        raise InputError(f"--config {file}: no such file")
    return file


def _reread(words: Sequence[str]) -> RouteSettings:
    try:
        parsed = _App(words).parse()
    except CycloptsError as error:
        raise UsageError(str(error)) from error
    assert parsed is not None, "the command line did not ask for help"
    return parsed[0]


def _configure_log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(message)s", stream=sys.stderr)


async def _explained(settings: RouteSettings, sources: Sources, prompt: str) -> Mapping[str, Any]:
    """Hear of the workers without serving anybody, and return what every policy would choose."""
    router = Router(settings, sources)
    try:
        router.follow_workers()
        await router.heard_of_all(HEARD_SECONDS)
        return router.explained("/v1/completions", msgspec.json.encode({"prompt": prompt}))
    finally:
        await router.close()


def _show(document: Mapping[str, Any]) -> None:
    console = Console(soft_wrap=False)
    console.print(
        f"{document['prompt_tokens']} tokens, {document['prompt_blocks']} full blocks of {document['block_size']}"
    )
    tables: list[RenderableType] = [
        _table(document["workers"], ("worker", "cached_tokens", "in_flight")),
        _table(document["policies"], ("policy", "worker", "expected_cached_tokens", "reason")),
    ]
    for table in tables:
        console.print(table)
    if not document["policies"]:
        console.print("No worker can take requests.")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    return table
