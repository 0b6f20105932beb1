"""`understudy route`: the router in front of vLLM servers. Flags, the environment, a file: the first that says it counts."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_origin, get_type_hints

import msgspec
import yaml
from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Dict, Env
from rich.console import Console
from rich.table import Table

from understudy.cli.event_loop import run_on_fast_loop
from understudy.cli.status import FAILED, SUCCESS
from understudy.cli.user_policy import load_user_policy
from understudy.errors import InputError, UsageError, unknown_name
from understudy.gateway.fleet import Policy
from understudy.gateway.router import Router, Sources
from understudy.gateway.settings import RouteSettings
from understudy.regular_file import MAX_YAML_BYTES, read_regular
from understudy.routing import load_policy

if TYPE_CHECKING:
    from rich.console import RenderableType

ENVIRONMENT_PREFIX = "UNDERSTUDY_ROUTE_"
HEARD_SECONDS = 10.0
"""How long --explain waits to hear of all workers."""

_log = logging.getLogger(__name__)


class Order(NamedTuple):
    """What one command line asks for; `explain` is a prompt, or None to serve."""

    settings: RouteSettings
    explain: str | None
    as_json: bool


def route(words: Sequence[str]) -> int:
    """Route until interrupted; `words` are those after `route`. Status 1 where a prompt cannot be explained: no worker is reached."""
    order = _order_of(words)
    if order is None:
        return SUCCESS
    settings = order.settings
    if not (settings.worker or settings.workers_file or settings.admin_port is not None):
        raise UsageError("route needs a --worker, a --workers-file, or an --admin-port to add workers by")
    if order.as_json and order.explain is None:
        raise UsageError("--json needs --explain")
    _configure_log()
    _warn_of_unknown_variables()
    sources = sources_of(lambda: _reread(words))
    if order.explain is not None:
        document = run_on_fast_loop(_explained(settings, sources, *question_of(order.explain)))
        return _tell(document, as_json=order.as_json)
    from understudy.gateway.serve import serve  # noqa: PLC0415 - after --help

    run_on_fast_loop(serve(settings, sources))
    return SUCCESS


def sources_of(reread: Callable[[], RouteSettings]) -> Sources:
    """Return what a router needs of the command line; `reread` returns the settings as they are by then."""
    return Sources(policy=policy_named, settings=reread)


def policy_named(name: str) -> Policy:
    """Return a policy by its name, or one of the user's by FILE.py:FUNCTION; raises UsageError."""
    is_own = ":" in name or name.endswith(".py")
    return Policy(name, load_user_policy(name) if is_own else load_policy(name))


def question_of(prompt: str) -> tuple[str, bytes]:
    """Return the path and the body of a request for a prompt: a text, or a whole body in JSON."""
    if not prompt.lstrip().startswith("{"):
        return "/v1/completions", msgspec.json.encode({"prompt": prompt})
    body = prompt.encode("utf-8", "surrogateescape")
    try:
        keys = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).keys()
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UsageError(
            f"--explain: what begins with {{ must be a request's body in JSON: {error}"
        ) from error
    if "messages" in keys:
        return "/v1/chat/completions", body
    return ("/v1/responses" if "input" in keys else "/v1/completions"), body


def _order_of(words: Sequence[str]) -> Order | None:
    """Return what a command line asks for, None where it was only help; raises UsageError and InputError."""
    config: list[Any] = [Env(ENVIRONMENT_PREFIX, command=False)]
    file = _config_file(words)
    if file is not None:
        config.append(Dict(_settings_in(file), source=f"--config {file}", use_commands_as_keys=False))
    app = App(
        name="understudy route",
        help="Route requests to vLLM servers, real or emulated, by what their caches hold. SIGHUP, or the admin API, reads "
        f"the file and the environment ({ENVIRONMENT_PREFIX}POLICY, ...) again.",
        config=config,
        version_flags=(),
    )
    app.default(_parsed)
    try:
        order: Order | None = app(
            list(words), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise UsageError(f"{error} See understudy route --help.") from error
    return order


def _parsed(
    *,
    config: Path | None = None,
    explain: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    settings: Annotated[RouteSettings, Parameter(name="*")] = RouteSettings(),
) -> Order:
    """Route requests.

    Parameters
    ----------
    config
        YAML file with any of the flags below, by their names without the dashes. Flags count before the environment, and that
        before the file.
    explain
        A prompt, or a request's body in JSON: print what each policy would choose for it and why, and exit.
    as_json
        With --explain: as JSON.
    """
    del config  # it was read before
    return Order(settings, explain, as_json)


def _config_file(words: Sequence[str]) -> Path | None:
    named = os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    for word, following in zip_longest(words, words[1:]):
        if word == "--config":
            named = following
        elif word is not None and word.startswith("--config="):
            named = word.partition("=")[2]
    return None if not named else Path(named)


def _settings_in(file: Path) -> dict[str, Any]:
    """Return what a configuration file says, by the names of settings; whether values are of their types is not looked at."""
    try:
        data = read_regular(file, MAX_YAML_BYTES)
    except InputError as error:
        raise InputError(f"--config: {error}") from error
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = "" if place is None else f", line {place.line + 1}, column {place.column + 1}"
        raise UsageError(f"--config {file}{where}: no YAML") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UsageError(f"--config {file}: expected lines such as `policy: prefix`")
    types = get_type_hints(RouteSettings)
    settings: dict[str, Any] = {}
    for key, value in document.items():
        name = str(key).replace("-", "_")
        if name not in types:
            raise UsageError(f"--config {file}: {unknown_name('setting', str(key), types)}")
        # The value may be a secret, so it is not told.
        if not _has_shape_of(types[name], value):
            accepted = "one value, or a list of them" if get_origin(types[name]) is tuple else "one value"
            raise UsageError(f"--config {file}: {name} must be {accepted}")
        if isinstance(value, float) and types[name] in {int, int | None}:
            raise UsageError(f"--config {file}: {name} must be a whole number, got {value}")
        if value is not None:
            settings[name] = value
    return settings


def _has_shape_of(kind: Any, value: object) -> bool:
    """Return whether a value is single, or a list of single ones where many are accepted."""
    values = value if isinstance(value, list) and get_origin(kind) is tuple else [value]
    return not any(isinstance(each, list | dict | set) for each in values)


def _reread(words: Sequence[str]) -> RouteSettings:
    order = _order_of(words)
    assert order is not None, "the command line did not ask for help"
    return order.settings


def _warn_of_unknown_variables() -> None:
    known = {field.name for field in fields(RouteSettings)} | {"config", "explain", "json"}
    for variable in sorted(os.environ):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name != variable and name.lower() not in known:
            _log.warning("%s in the environment sets nothing: there is no such flag", variable)


def _configure_log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(message)s", stream=sys.stderr)


async def _explained(settings: RouteSettings, sources: Sources, path: str, body: bytes) -> Mapping[str, Any]:
    """Hear of the workers without serving anybody, and return what every policy would choose."""
    router = Router(settings, sources)
    try:
        router.follow_workers()
        await router.heard_of_all(HEARD_SECONDS)
        return router.explained(path, body)
    finally:
        await router.close()


def _tell(document: Mapping[str, Any], *, as_json: bool) -> int:
    """Print what was found; returns the exit status."""
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        _show(document)
    return SUCCESS if document["policies"] else FAILED


def _show(document: Mapping[str, Any]) -> None:
    console = Console(soft_wrap=True, markup=False)
    console.print(
        f"{document['prompt_tokens']} tokens, {document['prompt_blocks']} full blocks of {document['block_size']}"
    )
    if not document["policies"]:
        console.print("No worker was reached that can take this request.")
        return
    tables: list[RenderableType] = [
        _table(document["workers"], ("worker", "cached_tokens", "in_flight")),
        _table(document["policies"], ("policy", "worker", "expected_cached_tokens", "reason")),
    ]
    for table in tables:
        console.print(table)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "policy")
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    return table
