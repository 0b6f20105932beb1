"""Measures `understudy serve`: tokens a CPU second, memory a stream, lateness of steps, and what a client sees.

    make bench-serving                                   # installs the peers and runs all four
    python -m benchmarks.serving tokens --guidellm PYTHON --vllm PYTHON
    python -m benchmarks.serving memory
    python -m benchmarks.serving lateness
    python -m benchmarks.serving client --vllm PYTHON

Load and server share the machine, so what counts is the servers' own CPU time. `--json` prints the figures as JSON.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_client import client_figures, print_client
from benchmarks.serving_figures import (
    lateness_figures,
    memory_figures,
    print_lateness,
    print_memory,
    print_tokens,
    token_figures,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["tokens", "memory", "lateness", "client", "all"])
    parser.add_argument("--guidellm", type=Path, help="a Python that has guidellm 0.8.1")
    parser.add_argument("--vllm", type=Path, help="a Python that has vLLM 0.33")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median is told (default 3)")
    parser.add_argument("--port", type=int, default=8450, help="the first of 12 free ports (default 8450)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    figures: dict[str, Any] = {}
    if options.what in {"tokens", "all"}:
        figures["tokens"] = token_figures(options.port, options.guidellm, options.vllm, options.runs)
    if options.what in {"memory", "all"}:
        figures["memory"] = memory_figures(options.port, options.runs)
    if options.what in {"lateness", "all"}:
        figures["lateness"] = lateness_figures(options.port, options.runs)
    if options.what in {"client", "all"}:
        if options.vllm is None:
            parser.error("the client is vLLM's: --vllm PYTHON is needed")
        figures["client"] = client_figures(options.port, options.vllm, options.runs)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    printers: dict[str, Callable[[Any], None]] = {
        "tokens": print_tokens,
        "memory": print_memory,
        "lateness": print_lateness,
        "client": print_client,
    }
    for name, found in figures.items():
        printers[name](found)
        print()


if __name__ == "__main__":
    main()
