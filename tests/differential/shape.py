"""What is compared of an answer, and what is not.

Compared: the status; the names of the headers, and the values of those in `COMPARED_HEADERS`; the body. A body that is JSON is
compared whole: keys, their order, types, nulls, lengths and values. Left out is only what two runs of vLLM itself need not
agree in, or what depends on the sampled tokens:

1. Moments (`created`, …) count as numbers. Words of 16 or 32 hexadecimal digits in strings, which are random ids, and the hash in
   `system_fingerprint`, count as so many digits. The model's folder (`root`) counts as text. How many tokens of a prompt were
   cached, which depends on the requests before, counts as a number.
2. Generated text counts as text, but for the text of an echo with max_tokens 0, which is the prompt, and for the prompt at the
   start of any other echo. Sampled token ids count as a list of that length; in `logprobs` and `prompt_logprobs` tokens, their
   bytes, ids, offsets and numbers count as such, and the number of alternatives counts.
3. In a stream, consecutive events that are then alike count as one, because vLLM sends what several steps brought in one
   event when its client or its event loop is late; so the token ids and logprobs of a stream are counted as a whole, the usage so far
   counts as numbers until the choice has finished, and so do sequence numbers. The events of one choice keep their order; how
   those of several choices interleave is free.
4. Of /metrics the HELP and TYPE lines of vLLM's own families count, of /openapi.json the routes and methods, of the pages
   of the documentation that they are there.

5. The methods of an Allow header have no order: in vLLM they are a set.

Error bodies are compared whole, but for rule 1.
"""

import json
import re
from typing import Any

from tests.differential.message import HttpAnswer, HttpRequest
from tests.differential.streams import folded, parsed_events
from tests.differential.values import without_chance

COMPARED_HEADERS = ("content-type", "allow", "location", "www-authenticate")
_PAGES = ("/docs", "/redoc", "/docs/oauth2-redirect")


def trimmed(request: HttpRequest, answer: HttpAnswer) -> HttpAnswer:
    """Return the answer without what is not compared and would only fill a recording."""
    headers = tuple((name, value if name in COMPARED_HEADERS else "") for name, value in answer.headers)
    path = request.path.partition("?")[0]
    body = answer.body
    if answer.status == 200 and body:
        if path in {"/metrics", "/metrics/"}:
            lines = [line for line in body.splitlines() if re.match(rb"# (HELP|TYPE) vllm:", line)]
            body = b"\n".join(sorted(lines))
        elif path == "/openapi.json":
            body = _routes(body)
        elif path in _PAGES:
            body = b"a page"
    return HttpAnswer(answer.status, headers, body, answer.whole)


def _routes(openapi: bytes) -> bytes:
    try:
        document = json.loads(openapi)
        paths: dict[str, dict[str, Any]] = {}
        for path, methods in sorted(document["paths"].items()):
            paths[path] = {method: {} for method in sorted(methods)}
        kept = {"openapi": document["openapi"], "info": {"title": document["info"]["title"]}, "paths": paths}
    except (ValueError, KeyError, TypeError, AttributeError):
        return openapi
    return json.dumps(kept).encode()


def shape(request: HttpRequest, answer: HttpAnswer) -> dict[str, Any]:
    """Return what is compared of an answer, as JSON values."""
    answer = trimmed(request, answer)
    return {
        "status": answer.status,
        "headers": {
            name: _in_order(value) if name == "allow" else value for name, value in sorted(answer.headers)
        },
        "whole": answer.whole,
        "body": _body(request, answer),
    }


def _in_order(methods: str) -> str:
    return ", ".join(sorted(methods.split(", ")))


def _body(request: HttpRequest, answer: HttpAnswer) -> Any:
    kind = answer.header("content-type").partition(";")[0]
    text = answer.body.decode("utf-8", "surrogateescape")
    if kind == "text/event-stream":
        return folded([without_chance(request, event) for event in parsed_events(text)])
    if kind == "application/json":
        try:
            value = json.loads(text)
        except ValueError:
            return {"no json": text}
        return without_chance(request, value)
    return text
