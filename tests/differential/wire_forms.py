"""How a body is written down: JSON in several spellings, broken JSON, and headers that fit it or do not."""

import json
from random import Random
from typing import Any

from tests.differential.message import Header

_JSON = ("content-type", "application/json")
_CONTENT_TYPES: tuple[str | None, ...] = (
    *(
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/octet-stream",
    ),
    *(
        "application/json; charset=utf-8",
        "application/json;charset=latin-1",
        "APPLICATION/JSON",
        "application/problem+json",
    ),
    *("json", "text/json", "application/jsonp", " application/json", "application/json, text/plain"),
)
_ODD_HEADERS: tuple[Header, ...] = (
    ("x-request-id", "mine-17"),
    ("X-Request-Id", ""),
    ("x-request-id", "with space / and slash"),
    ("accept", "text/event-stream"),
    ("accept", "text/html"),
    ("accept-encoding", "gzip, br"),
    ("authorization", "Bearer nothing"),
    ("origin", "http://example.org"),
    ("x-data-parallel-rank", "0"),
    ("x-data-parallel-rank", "x"),
    ("x-session-id", "s"),
    ("x-vllm-priority", "3"),
    ("x-vllm-priority", "x"),
    ("endpoint-load-metrics-format", "TEXT"),
    ("endpoint-load-metrics-format", "JSON"),
    ("endpoint-load-metrics-format", "XML"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("user-agent", "OpenAI/Python 1.0"),
    ("x-forwarded-proto", "https"),
)
_BROKEN: tuple[bytes, ...] = (
    *(
        b"",
        b" ",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"true",
        b"{",
        b"}",
        b"{}",
        b"nonsense",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
    ),
    *(
        b'{"prompt": "a",}',
        b"{'prompt': 'a'}",
        b'{"prompt": "a"} x',
        b'{"prompt": "a" "b"}',
        b'{"prompt": "\xff"}',
    ),
    *(
        b'{"prompt": "a", "max_tokens": 1, "max_tokens": 2}',
        b'{"prompt": "a\nb", "max_tokens": 1}',
        b'{"prompt": "\\x"}',
    ),
    *(
        b'{"prompt": "a", "temperature": NaN, "max_tokens": 1}',
        b'{"prompt": "a", "top_p": Infinity, "max_tokens": 1}',
    ),
    *(
        b'{"prompt": "a", "temperature": 1e999, "max_tokens": 1}',
        b'{"prompt": "a", "max_tokens": 01}',
        b"[" * 200,
    ),
    *(
        b'{"prompt": "\\ud800", "max_tokens": 1}',
        b'{"prompt": "a", "max_tokens": 1, "seed": ' + b"9" * 60 + b"}",
    ),
)


def encoded(random: Random, body: Any) -> bytes:
    """Return a body as JSON, at times with other spaces or with characters beyond ASCII as they are."""
    form = random.randrange(10)
    if form == 0:
        return json.dumps(body, indent=1).encode()
    if form == 1:
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(body, separators=(",", ":")).encode()


def broken(random: Random, body: Any) -> bytes:
    """Return bytes that are no JSON, or JSON that is no object, or an object that JSON readers dispute."""
    whole = json.dumps(body).encode()
    if random.random() < 0.4:
        return whole[: random.randrange(len(whole))]
    if random.random() < 0.3:
        cut = random.randrange(len(whole))
        return whole[:cut] + random.choice((b",", b"}", b'"', b"\\", b"\x00", b"x")) + whole[cut:]
    return random.choice(_BROKEN)


def headers(random: Random) -> tuple[Header, ...]:
    """Return the headers of a body: nearly always those of JSON."""
    chosen: list[Header] = [_JSON]
    if random.random() < 0.04:
        kind = random.choice(_CONTENT_TYPES)
        chosen = [] if kind is None else [("content-type", kind)]
    return (*chosen, *odd_headers(random))


def odd_headers(random: Random) -> tuple[Header, ...]:
    """Return a header that few clients send, or none."""
    return (random.choice(_ODD_HEADERS),) if random.random() < 0.12 else ()
