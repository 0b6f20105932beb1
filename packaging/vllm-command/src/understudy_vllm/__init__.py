"""The command `vllm`: it serves as `understudy serve` does, tells vLLM's version, and refuses all else in one line."""

import sys
from typing import NoReturn

from understudy import VLLM_VERSION
from understudy.cli.main import run as run_understudy

_WRONG_USAGE = 2


def run() -> NoReturn:
    """Run the command line of this process and exit."""
    match sys.argv[1:]:
        case ["serve", *_]:
            run_understudy()
        case ["-v" | "--version"]:
            print(VLLM_VERSION)
            sys.exit(0)
        case words:
            command = " ".join(words[:1])
            print(
                f"vllm: this is understudy, which plays `vllm serve` and `vllm --version` only, not {command!r}",
                file=sys.stderr,
            )
            sys.exit(_WRONG_USAGE)
