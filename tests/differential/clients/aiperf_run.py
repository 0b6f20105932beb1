"""NVIDIA's AIPerf, over streamed chats: no request fails, and it counts the tokens that the server counts.

python -m tests.differential.clients.aiperf_run http://127.0.0.1:8000 TOKENIZER_FOLDER
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.differential.clients.check import check

REQUESTS = 40
PROMPT_TOKENS = 64
OUTPUT_TOKENS = 16
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}
"""AIPerf takes a folder for a tokenizer only if it believes that it may ask the hub, so it may, but nothing answers."""


def main() -> None:
    """Run the benchmark against the server at the URL, with the tokenizer in the folder."""
    url, tokenizer = sys.argv[1].rstrip("/"), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("aiperf")), "profile"]
        command += ["--model-names", "m", "--url", url, "--endpoint-type", "chat", "--streaming"]
        command += ["--tokenizer", str(tokenizer), "--apply-chat-template", "--random-seed", "1"]
        command += [
            "--request-count",
            str(REQUESTS),
            "--concurrency",
            "4",
            "--extra-inputs",
            "ignore_eos:true",
        ]
        command += ["--prompt-input-tokens-mean", str(PROMPT_TOKENS)]
        command += ["--prompt-output-tokens-mean", str(OUTPUT_TOKENS)]
        command += ["--output-artifact-dir", folder, "--ui-type", "none", "--no-gpu-telemetry"]
        done = subprocess.run(command, env={**os.environ, **NO_HUB}, timeout=150, check=False)
        check("aiperf ends well", holds=done.returncode == 0)
        report = json.loads(Path(folder, "profile_export_aiperf.json").read_text(encoding="utf-8"))
        scraped = json.loads(Path(folder, "server_metrics_export.json").read_text(encoding="utf-8"))
    check(f"{REQUESTS} requests are answered", holds=report["request_count"]["avg"] == REQUESTS)
    check("none fails", holds=report["is_complete"] and not report["error_summary"])
    timed = (report[name]["min"] > 0 for name in ("time_to_first_token", "inter_token_latency"))
    check("first and later tokens were timed", holds=all(timed))
    generated = scraped["metrics"]["vllm:generation_tokens"]["series"]
    total = sum(one["stats"]["total"] for one in generated)
    check("it finds all tokens in /metrics", holds=total == REQUESTS * OUTPUT_TOKENS)
    for name, tokens, what in (
        ("usage_prompt_tokens", PROMPT_TOKENS, "the server counts the tokens of a prompt as aiperf does"),
        ("usage_completion_tokens", OUTPUT_TOKENS, "an answer has as many tokens as were asked for"),
        ("output_sequence_length", OUTPUT_TOKENS, "aiperf's tokenizer finds as many in its text"),
    ):
        check(f"{what}: {tokens}", holds=(report[name]["min"], report[name]["max"]) == (tokens, tokens))


main()
