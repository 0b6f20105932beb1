"""Replays the whole conversation trace with understudy and with NVIDIA Dynamo's offline replay, and prints the ratio.

Both run as whole processes, by turns, cold start included: 12,031 requests over 4 workers, round robin, 16-token blocks,
20,000 blocks a worker, 256 sequences and 8,192 tokens a step. Dynamo (Rust) is installed into an environment of its own:

    make bench                                        # installs and runs
    python benchmarks/replay.py --dynamo PYTHON       # PYTHON has ai-dynamo-runtime 1.6.1
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

WORKERS, BLOCKS, BLOCK_SIZE, SEQUENCES, TOKENS, CONTEXT = 4, 20_000, 16, 256, 8_192, 131_072
TRACE_BLOCK_TOKENS = 512

DYNAMO_REPLAY = """
import json, sys
from dynamo._core import run_mocker_trace_replay
trace, arguments = sys.argv[1], json.loads(sys.argv[2])
run_mocker_trace_replay([trace], **arguments)
"""


class Usage(NamedTuple):
    """What one process took: seconds of wall clock and of all its CPUs, and its peak resident memory in MiB."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def main() -> None:
    """Run both programs by turns and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dynamo", required=True, help="a Python that has ai-dynamo-runtime")
    parser.add_argument("--runs", type=int, default=3, help="runs of each program (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "conversation.jsonl"
        sample = files("understudy.workload") / "data" / "conversation.jsonl.gz"
        with sample.open("rb") as packed, trace.open("wb") as file:
            shutil.copyfileobj(gzip.GzipFile(fileobj=packed), file)
        commands = {"understudy": understudy(trace), "dynamo": dynamo(options.dynamo, trace)}
        usages: dict[str, list[Usage]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                usages[name].append(measure(command))
    report(usages)


def understudy(trace: Path) -> list[str]:
    """Return our command."""
    flags = {
        "--workers": WORKERS,
        "--policy": "round-robin",
        "--block-size": BLOCK_SIZE,
        "--num-gpu-blocks-override": BLOCKS,
        "--max-model-len": CONTEXT,
        "--max-num-seqs": SEQUENCES,
        "--max-num-batched-tokens": TOKENS,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    return [sys.executable, "-m", "understudy", "simulate", str(trace), *words, "--json"]


def dynamo(python: str, trace: Path) -> list[str]:
    """Return Dynamo's command."""
    engine = {
        "backend": "vllm",
        "block_size": BLOCK_SIZE,
        "num_gpu_blocks": BLOCKS,
        "max_num_seqs": SEQUENCES,
        "max_num_batched_tokens": TOKENS,
        "enable_prefix_caching": True,
    }
    arguments = {
        "extra_engine_args": {"engine": engine},
        "num_workers": WORKERS,
        "router_mode": "round_robin",
        "trace_block_size": TRACE_BLOCK_TOKENS,
    }
    return [python, "-c", DYNAMO_REPLAY, str(trace), json.dumps(arguments)]


def measure(command: list[str]) -> Usage:
    """Run a command to its end; exits if it fails."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{command[0]} failed:\n{errors.read().decode(errors='replace')}")
    return Usage(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def report(usages: dict[str, list[Usage]]) -> None:
    """Print the medians of both, and ours over theirs."""
    medians = {name: Usage(*map(statistics.median, zip(*runs, strict=True))) for name, runs in usages.items()}
    ours, theirs = medians["understudy"], medians["dynamo"]
    ratio = Usage(*(mine / yours for mine, yours in zip(ours, theirs, strict=True)))
    print(f"medians of {len(usages['understudy'])} runs each, by turns")
    print(f"{'':12}{'wall, s':>10}{'CPU, s':>10}{'peak, MiB':>12}")
    for name, usage in (*medians.items(), ("ratio", ratio)):
        print(f"{name:12}{usage.wall_seconds:>10.2f}{usage.cpu_seconds:>10.2f}{usage.peak_mib:>12.1f}")


if __name__ == "__main__":
    main()
