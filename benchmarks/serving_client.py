"""What `vllm bench serve` sees of the server, beside what the simulator says of the same requests at the same times."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.servers import GPU, MODEL, understudy, write_model

REQUESTS, RATE = 200, 20
PROMPT_TOKENS, OUTPUT_TOKENS, SPREAD = 512, 64, 0.5
"""Lengths are drawn evenly from the mean, less or more its half."""

_ENGINE = ("--max-model-len", "8192", "--no-enable-prefix-caching")
"""Of a small vocabulary, the client's prompts begin alike now and then, and it does not tell which."""


def client_figures(port: int, vllm_python: Path, runs: int) -> dict[str, Any]:
    """Return the medians over runs of both sides' p50, in milliseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "model")
        with understudy(port, "--tokenizer", str(model), *_ENGINE) as server:
            seen = [_bench(vllm_python, server.port, model, folder, seed) for seed in range(runs)]
        said = [_simulate(each, folder) for each in seen]
    figures: dict[str, Any] = {"requests": REQUESTS, "requests_per_second": RATE}
    for kind in ("ttft", "itl"):
        mine = [each[kind] for each in said]
        theirs = [each[f"median_{kind}_ms"] for each in seen]
        figures[kind] = {
            "simulated_p50_ms": statistics.median(mine),
            "seen_p50_ms": statistics.median(theirs),
            "largest_difference_ms": max(abs(a - b) for a, b in zip(mine, theirs, strict=True)),
        }
    return figures


def _bench(python: Path, port: int, model: Path, folder: Path, seed: int) -> dict[str, Any]:
    command = [str(python.parent / "vllm"), "bench", "serve", "--base-url", f"http://127.0.0.1:{port}"]
    command += [
        "--backend",
        "openai",
        "--endpoint",
        "/v1/completions",
        "--model",
        "m",
        "--tokenizer",
        str(model),
    ]
    command += ["--dataset-name", "random", "--num-prompts", str(REQUESTS), "--request-rate", str(RATE)]
    command += ["--random-input-len", str(PROMPT_TOKENS), "--random-output-len", str(OUTPUT_TOKENS)]
    command += ["--random-range-ratio", str(SPREAD), "--ignore-eos", "--seed", str(seed), "--disable-tqdm"]
    command += ["--save-result", "--save-detailed", "--result-dir", str(folder)]
    command += ["--result-filename", f"{seed}.json"]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu", "VLLM_LOGGING_LEVEL": "ERROR"}
    _run(command, environment)
    result: dict[str, Any] = json.loads((folder / f"{seed}.json").read_text(encoding="utf-8"))
    assert result["completed"] == REQUESTS, f"{result['completed']} of {REQUESTS} requests were answered"
    return result


def _simulate(seen: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return the simulator's p50s in milliseconds for the requests that the client sent, when it sent them."""
    trace = folder / "trace.jsonl"
    first_seconds = min(seen["start_times"])
    requests = sorted(zip(seen["start_times"], seen["input_lens"], seen["output_lens"], strict=True))
    with trace.open("w", encoding="utf-8") as file:
        for number, (start_seconds, num_prompt, num_output) in enumerate(requests):
            request = {
                "id": str(number),
                "arrival_seconds": start_seconds - first_seconds,
                "prompt": {"num_tokens": num_prompt, "segment_ids": [number], "segment_tokens": 8192},
                "output_tokens": num_output,
            }
            file.write(json.dumps(request) + "\n")
    fleet = ["--workers", "1", "--policy", "round-robin", "--model", MODEL, "--gpu", GPU]
    command = [sys.executable, "-m", "understudy", "simulate", str(trace), *fleet, *_ENGINE, "--json"]
    told = json.loads(_run(command, {}))["runs"][0]
    return {kind: 1000 * told[kind]["p50"] for kind in ("ttft", "itl")}


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def print_client(found: dict[str, Any]) -> None:
    """Print a table."""
    print(f"{found['requests']} requests at {found['requests_per_second']} a second; p50 in ms")
    print(f"{'':6}{'simulated':>12}{'seen':>12}{'largest difference':>20}")
    for kind in ("ttft", "itl"):
        each = found[kind]
        print(
            f"{kind:6}{each['simulated_p50_ms']:>12.2f}{each['seen_p50_ms']:>12.2f}{each['largest_difference_ms']:>20.2f}"
        )
