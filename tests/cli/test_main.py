"""How errors become a line and an exit status."""

from pathlib import Path

import pytest
from tests.cli.in_process import output_of
from tests.cli.processes import understudy

from understudy import VLLM_VERSION, __version__, errors
from understudy.cli import main


def subclasses(kind: type[errors.UnderstudyError]) -> list[type[errors.UnderstudyError]]:
    """Return an error and all that derive from it."""
    return [kind, *(below for each in kind.__subclasses__() for below in subclasses(each))]


@pytest.mark.parametrize("kind", subclasses(errors.UnderstudyError))
def test_an_error_becomes_one_line_and_a_status(
    kind: type[errors.UnderstudyError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 for wrong usage, 1 for everything else; a message of several lines is told in one."""

    def app(*_arguments: object, **_options: object) -> None:
        raise kind("first\n  second")

    monkeypatch.setattr(main, "app", app)
    expected = 2 if issubclass(kind, errors.UsageError) else 1
    assert output_of("anything") == (expected, "understudy: first second\n")


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An assertion is no error of the user's: it keeps its traceback."""

    def app(*_arguments: object, **_options: object) -> None:
        raise AssertionError("ours")

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(AssertionError, match="ours"):
        output_of("anything")


@pytest.mark.parametrize("status", [None, 0, 130])
def test_the_status_of_a_command_is_handed_on(monkeypatch: pytest.MonkeyPatch, status: int | None) -> None:
    """A command that returns nothing has succeeded."""
    monkeypatch.setattr(main, "app", lambda *_arguments, **_options: status)
    assert output_of("anything")[0] == (status or 0)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """With or without asking, on standard output and without colours."""
    result = understudy(*arguments, cwd=tmp_path)
    assert (result.status, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    commands = ("simulate", "compare", "demo", "capacity", "generate", "step-log", "verify")
    assert all(f"│ {command} " in result.stdout for command in commands)


def test_version(tmp_path: Path) -> None:
    """Ours, and that of the vLLM that it stands in for."""
    result = understudy("--version", cwd=tmp_path)
    assert result == (0, f"understudy {__version__} (as vLLM {VLLM_VERSION})\n", "")
