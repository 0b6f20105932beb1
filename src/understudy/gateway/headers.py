"""Which headers pass the router, either way: all but those of one connection (RFC 9110, 7.6.1) and those that it writes itself."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

Fields = Sequence[tuple[bytes, bytes]]

WORKER = b"X-Understudy-Worker"
REASON = b"X-Understudy-Reason"
REQUEST_ID = b"X-Request-Id"
NOT_STARTED = b"x-understudy-not-started"
"""On a 429 or 503: the worker has not begun with the request."""

_OF_ONE_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

OF_REQUESTS = _OF_ONE_CONNECTION | {b"content-length", b"expect", b"host"}
"""What the router does not pass to workers, but writes itself where it is needed."""

OF_ANSWERS = _OF_ONE_CONNECTION | {b"content-length", WORKER.lower(), REASON.lower()}
"""What the router does not pass to clients, but writes itself where it is needed."""

OF_CORS = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"access-control-max-age",
        b"vary",
    }
)
"""What is the router's own in answers, besides, where it is the router that lets pages of other origins call."""

_PERSISTENCE = frozenset({b"close", b"keep-alive"})
"""Options of Connection that name no header."""

_LOCATION = b"location"

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Passing(NamedTuple):
    """What passes: whole lines. And the last value of every header that Connection does not list, by its name in lower case."""

    lines: bytes
    values: dict[bytes, bytes]


def passing(fields: Fields, own: Collection[bytes]) -> Passing:
    """Return what passes of a message's headers, as it came, without those of `own`, which are in lower case."""
    values: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    for name, value in fields:
        key = name.lower()
        values[key] = value
        if key not in own:
            lines.append(b"%b: %b\r\n" % (name, value))
    if b"connection" in values and (listed := _connection_options(fields) - _PERSISTENCE):
        for key in listed:
            values.pop(key, None)
        lines = [line for line in lines if line.partition(b":")[0].lower() not in listed]
    return Passing(b"".join(lines), values)


def without_worker(fields: Fields, worker_url: bytes) -> Fields:
    """Return an answer's headers with a Location at the worker as one at whoever was asked: it would lead past the router."""
    if not any(name.lower() == _LOCATION for name, _ in fields):
        return fields
    return [
        (name, value.removeprefix(worker_url) or b"/")
        if name.lower() == _LOCATION and _is_below(value, worker_url)
        else (name, value)
        for name, value in fields
    ]


def _is_below(location: bytes, url: bytes) -> bool:
    return location == url or location.startswith((url + b"/", url + b"?"))


def has_control_characters(fields: Fields) -> bool:
    """Return whether a header has a character that no header may have, such as a line's end."""
    return _CONTROL.search(b"".join(chain.from_iterable(fields))) is not None


@lru_cache(maxsize=1024)
def header_safe(text: str) -> bytes:
    """Return text as the value of a header: one line of ASCII."""
    return _CONTROL.sub(b"?", text.encode("ascii", "replace")).strip()


def _connection_options(fields: Fields) -> frozenset[bytes]:
    values = [value for name, value in fields if name.lower() == b"connection"]
    return frozenset(option.strip().lower() for option in b",".join(values).split(b","))
