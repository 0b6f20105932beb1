"""vLLM's own benchmark of servers, over chats and over completions.

python -m tests.differential.clients.vllm_bench http://127.0.0.1:8000 TOKENIZER_FOLDER
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.differential.clients.check import check

REQUESTS = 20
OUTPUT_TOKENS = 16
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_NO_USAGE_STATS": "1",
}


def main() -> None:
    """Run the benchmark against the server at the URL, with the tokenizer in the folder."""
    url, tokenizer = sys.argv[1].rstrip("/"), Path(sys.argv[2]).resolve()
    for backend, endpoint in (("openai-chat", "/v1/chat/completions"), ("openai", "/v1/completions")):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *(str(Path(sys.executable).with_name("vllm")), "bench", "serve"),
                *("--backend", backend, "--endpoint", endpoint, "--base-url", url),
                *("--model", "m", "--tokenizer", str(tokenizer), "--seed", "1"),
                *("--dataset-name", "random", "--random-input-len", "32"),
                *("--random-output-len", str(OUTPUT_TOKENS), "--ignore-eos"),
                *("--num-prompts", str(REQUESTS), "--request-rate", "20", "--disable-tqdm"),
                *("--save-result", "--result-dir", folder, "--result-filename", "result.json"),
            ]
            done = subprocess.run(
                command,
                env={**os.environ, **QUIET},
                timeout=150,
                check=False,
            )
            check(f"{backend}: the benchmark ends well", holds=done.returncode == 0)
            result = json.loads(Path(folder, "result.json").read_text())
        check(f"{backend}: {REQUESTS} requests are answered", holds=result["completed"] == REQUESTS)
        check(f"{backend}: none fails", holds=result.get("failed", 0) == 0)
        check(f"{backend}: all tokens came", holds=result["total_output_tokens"] == REQUESTS * OUTPUT_TOKENS)
        check(
            f"{backend}: first and later tokens were timed",
            holds=result["mean_ttft_ms"] > 0 and result["mean_itl_ms"] > 0,
        )


main()
