"""GuideLLM's benchmark: no request fails, and every answer has as many tokens as were asked for.

python -m tests.differential.clients.guidellm_run http://127.0.0.1:8000 TOKENIZER_FOLDER
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.differential.clients.check import check

REQUESTS = 40
OUTPUT_TOKENS = 16


def main() -> None:
    """Run the benchmark against the server at the URL, with the tokenizer in the folder."""
    url, tokenizer = sys.argv[1].rstrip("/"), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [
            *(str(Path(sys.executable).with_name("guidellm")), "run"),
            *("--backend", f"kind=openai_http,target={url},model=m"),
            *("--tokenizer", f"kind=huggingface_auto,model={tokenizer}"),
            *("--data", f"kind=synthetic_text,prompt_tokens=64,output_tokens={OUTPUT_TOKENS}"),
            *("--profile", "kind=concurrent,streams=4"),
            *("--constraint", f"kind=max_requests,count={REQUESTS}"),
            *("--disable-console", "--output", f"kind=json,path={report}"),
        ]
        done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=150, check=False)
        check("guidellm ends well", holds=done.returncode == 0)
        (benchmark,) = json.loads(report.read_text())["benchmarks"]
    requests = benchmark["requests"]
    check(f"{REQUESTS} requests are answered", holds=len(requests["successful"]) == REQUESTS)
    check("none fails", holds=not requests["errored"] and not requests["incomplete"])
    told = {request["output_metrics"]["text_tokens"] for request in requests["successful"]}
    check(f"each has {OUTPUT_TOKENS} tokens", holds=told == {OUTPUT_TOKENS})


main()
