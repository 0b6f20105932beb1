"""The command `understudy`: finds the subcommand, and turns errors into one line and an exit status.

0 success, 1 bad input or output, 2 wrong usage, 130 interrupted by Ctrl-C.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError

from understudy import VLLM_VERSION, __version__
from understudy.cli.status import FAILED, INTERRUPTED, SUCCESS, WRONG_USAGE
from understudy.errors import UnderstudyError, UsageError

app = App(
    name="understudy",
    help=f"A stand-in for vLLM {VLLM_VERSION} that needs no GPU: the same decisions, in virtual time.",
    version=f"understudy {__version__} (as vLLM {VLLM_VERSION})",
    suppress_keyboard_interrupt=False,
)
# The modules are imported only when their command runs, so the summaries stand here.
for _path, _summary in (
    ("simulate:simulate", "Replay a workload over a fleet of engines, in virtual time."),
    ("simulate:compare", "Replay the same workload under each of several routing policies."),
    ("replay:replay", "Send a workload to an OpenAI endpoint in real time, and report what its clients saw."),
    ("demo:demo", "Compare three routing policies on 1,000 real requests."),
    ("capacity:capacity", "Print where every byte of a GPU goes, and how many KV-cache blocks remain."),
    ("serve:serve", "Serve one emulated worker over HTTP, in place of `vllm serve`, with vLLM's flags."),
    ("route:route", "Route requests to vLLM servers, real or emulated, by what their caches hold."),
    ("up:up", "Start emulated workers and a router in front of them, by one command."),
    ("generate:generate", "Print a generated workload as JSON lines."),
    ("step_log:step_log", "Print what the scheduler decides in each step, to be compared with vLLM's own."),
    ("verify:verify", "Compare with vLLM and print a scorecard; nothing disagrees if the exit status is 0."),
):
    app.command(f"understudy.cli.{_path}", help=_summary)


def run() -> NoReturn:
    """Run the command line of this process and exit; SIGTERM interrupts like Ctrl-C."""
    _make_streams_safe()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(status_of(sys.argv[1:]))


def status_of(arguments: list[str]) -> int:
    """Run one command line and return its exit status; what went wrong is told on standard error, in one line."""
    try:
        status = _run_command(arguments)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error), WRONG_USAGE)
    except UnderstudyError as error:
        return _fail(str(error), FAILED)
    except CycloptsError as error:
        command = " ".join(("understudy", *(error.command_chain or ())))
        return _fail(f"{error} See {command} --help.", WRONG_USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        # Standard output cannot be written; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reader_has_gone = isinstance(error, BrokenPipeError)
        return FAILED if reader_has_gone else _fail(str(error), FAILED)
    return status if isinstance(status, int) else SUCCESS


def _run_command(arguments: list[str]) -> object:
    if arguments[:1] == ["route"]:
        # Its flags may also stand in a file and in the environment.
        from understudy.cli.route import route  # noqa: PLC0415 - as late as every other command

        return route(arguments[1:])
    if arguments[:1] == ["serve"]:
        # Its command line is vLLM's to the letter, and parsed by vLLM's rules.
        from understudy.cli.serve import serve  # noqa: PLC0415 - as late as every other command

        return serve(arguments[1:])
    return app(arguments, exit_on_error=False, print_error=False, result_action="return_value")


def _make_streams_safe() -> None:
    """Let nothing fail because a stream was closed by whoever started us, or has no letter for what it is told."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the end
        else:
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, status: int) -> int:
    print(f"understudy: {' '.join(message.split())}", file=sys.stderr)
    return status
