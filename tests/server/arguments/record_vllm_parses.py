"""Record what vLLM makes of command lines: `python -m tests.server.arguments.record_vllm_parses > vllm_parses.json`.

It needs an environment with vLLM 0.33, with VLLM_TARGET_DEVICE=cpu and no other of vLLM's variables set.
A recording holds the exit status (1 where vLLM ends with a traceback) and, where that is 0, the values that are not
the default, as they are before the server is built. It also holds all names of flags, and all defaults.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import vllm.entrypoints.cli.serve as serve_command
from tests.server.arguments.command_lines import CommandLine, VllmFlag, command_lines
from tests.server.arguments.vllm_parser import as_json, flag_entry, parsers
from vllm.entrypoints.cli.serve import ServeSubcommand

ORIGIN = "vLLM 0.33.0, its own parser of `vllm serve`"
_NOT_OURS = {"subparser", "dispatch_function", "model_tag"}


class _Recorder:
    def __init__(self) -> None:
        self._command, serve = parsers()
        self.options = {name: action.dest for name, action in sorted(serve._option_string_actions.items())}
        self.flags = [
            VllmFlag(action.dest, flag_entry(action), tuple(self._names(action.dest)))
            for action in serve._actions
            if action.dest not in {"help", "model_tag"}
        ]
        self.defaults = self._values(self._command.parse_args(["serve"]))

    def _names(self, dest: str) -> list[str]:
        return [name for name, set_dest in self.options.items() if set_dest == dest]

    def record(self, line: CommandLine) -> dict[str, Any]:
        """Return the line with its status and values."""
        status, values = self._outcome(line)
        entry = {"argv": line.argv, "config": line.config, "status": status, "values": values}
        return {key: value for key, value in entry.items() if value is not None}

    def _outcome(self, line: CommandLine) -> tuple[int, dict[str, Any] | None]:
        if line.config is not None:
            Path("CONFIG.yaml").write_text(line.config, encoding="utf-8")
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
                arguments = self._command.parse_args(["serve", *line.argv])
                serve = ServeSubcommand()
                serve.validate(arguments)
                values = self._values(arguments)
                serve.cmd(arguments)
        except SystemExit as end:
            return int(end.code or 0), None
        except Exception:  # noqa: BLE001 - vLLM ends with a traceback
            return 1, None
        finally:
            Path("CONFIG.yaml").unlink(missing_ok=True)
        return 0, {dest: value for dest, value in values.items() if value != self.defaults.get(dest)}

    @staticmethod
    def _values(arguments: argparse.Namespace) -> dict[str, Any]:
        values = {dest: as_json(value) for dest, value in vars(arguments).items() if dest not in _NOT_OURS}
        if arguments.model_tag is not None:
            values["model"] = arguments.model_tag
        return values


def _start_nothing() -> None:
    def nothing(*_: object) -> None:
        return None

    for name in ("run_server", "run_headless", "run_multi_api_server", "run_dp_supervisor"):
        setattr(serve_command, name, nothing)
    serve_command.uvloop.run = nothing


def main() -> None:
    """Print the recordings, one a line."""
    _start_nothing()
    recorder = _Recorder()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        lines = ",\n".join(json.dumps(recorder.record(line)) for line in command_lines(recorder.flags))
    sys.stdout.write(
        f'{{"origin": {json.dumps(ORIGIN)},\n"options": {json.dumps(recorder.options)},\n'
        f'"defaults": {json.dumps(recorder.defaults)},\n"parses": [\n{lines}\n]}}\n'
    )


main()
