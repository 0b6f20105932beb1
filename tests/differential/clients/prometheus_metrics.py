"""Prometheus' own parser on /metrics: every family is well formed, and counters count a request.

python -m tests.differential.clients.prometheus_metrics http://127.0.0.1:8000
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from tests.differential.clients.check import check

TOKENS = 5
COUNTED = {
    "vllm:generation_tokens_total": TOKENS,
    "vllm:request_success_total": 1,
    "vllm:e2e_request_latency_seconds_count": 1,
    "vllm:time_to_first_token_seconds_count": 1,
}


def asked(host: str, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """Return status and body of an answer."""
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request(method, path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


def totals(host: str) -> dict[str, float]:
    """Return each sample's sum over its labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(asked(host, "GET", "/metrics")[1]):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def main() -> None:
    """Run every check against the server at the URL that is the argument."""
    host = urlsplit(sys.argv[1]).netloc
    before = totals(host)
    check("the parser reads vLLM's families", holds=sum(name.startswith("vllm:") for name in before) > 100)
    body = json.dumps({"model": "m", "prompt": "hello", "max_tokens": TOKENS, "ignore_eos": True})
    check("a completion is answered", holds=asked(host, "POST", "/v1/completions", body)[0] == 200)
    time.sleep(1)
    after = totals(host)
    check("no sample is gone", holds=set(before) <= set(after))
    for name, more in COUNTED.items():
        check(f"{name} grew by {more}", holds=after[name] - before[name] == more)
    check("no request is running", holds=after["vllm:num_requests_running"] == 0)


main()
