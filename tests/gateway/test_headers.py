"""What passes of headers: everything but what belongs to one connection."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.gateway.headers import (
    OF_ANSWERS,
    OF_REQUESTS,
    has_control_characters,
    header_safe,
    passing,
    without_worker,
)

HOP_BY_HOP = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
]
TOKENS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12).map(str.encode)
VALUES = st.text(string.printable.strip(), max_size=12).map(str.encode)


@given(
    fields=st.lists(st.tuples(st.one_of(TOKENS, st.sampled_from(HOP_BY_HOP)), VALUES), max_size=12),
    listed=st.lists(TOKENS, max_size=3),
    own=st.sampled_from([OF_REQUESTS, OF_ANSWERS]),
)
def test_all_passes_but_what_is_of_one_connection(
    fields: list[tuple[bytes, bytes]], listed: list[bytes], own: frozenset[bytes]
) -> None:
    """In its order and spelling; what Connection lists does not, in whatever case, nor how often it is there."""
    fields = [field for field in fields if field[0].lower() != b"connection"]
    fields += [(name.swapcase(), b"1") for name in listed] + [(b"connection", b" , ".join(listed))]
    dropped = own | {name.lower() for name in listed} - {b"close", b"keep-alive"}
    expected = [(name, value) for name, value in fields if name.lower() not in dropped]
    assert passing(fields, own).lines == b"".join(b"%b: %b\r\n" % field for field in expected)


def test_persistence_is_no_name_of_a_header() -> None:
    """`Connection: close` takes no header away but itself."""
    fields = [(b"Close", b"1"), (b"Connection", b"close"), (b"X", b"2")]
    assert passing(fields, OF_ANSWERS).lines == b"Close: 1\r\nX: 2\r\n"


def test_what_does_not_pass_is_not_taken_for_what_does() -> None:
    """An id that Connection lists is none that the worker gets, so it gets another."""
    fields = [(b"X-Request-Id", b"1"), (b"Connection", b"close, x-request-id")]
    assert b"x-request-id" not in passing(fields, OF_REQUESTS).values


@given(text=st.text())
def test_any_text_becomes_one_line_of_ascii(text: str) -> None:
    """So no reason that a policy gives can end a header or begin another."""
    safe = header_safe(text)
    assert safe.isascii()
    assert not has_control_characters([(b"X", safe)])
    assert safe == safe.strip()


@given(before=st.binary(max_size=4), control=st.sampled_from(b"\0\x01\n\r\x0b\x1f\x7f"))
def test_control_characters_are_seen_wherever_they_are(before: bytes, control: int) -> None:
    """In a name or a value."""
    bad = before + bytes([control])
    assert has_control_characters([(b"X", b"1"), (bad, b"1")])
    assert has_control_characters([(b"X", bad), (b"Y", b"1")])


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        (b"http://10.0.0.7:8000/v1/completions", b"/v1/completions"),
        (b"http://10.0.0.7:8000", b"/"),
        (b"http://10.0.0.7:8000?a=1", b"?a=1"),
        (b"http://10.0.0.7:80001/x", b"http://10.0.0.7:80001/x"),
        (b"https://elsewhere/x", b"https://elsewhere/x"),
        (b"/v1/completions", b"/v1/completions"),
    ],
)
def test_a_redirect_does_not_lead_past_the_router(location: bytes, seen: bytes) -> None:
    """A Location at the worker becomes one at whoever was asked; every other one stays."""
    fields = [(b"X", b"1"), (b"location", location)]
    assert without_worker(fields, b"http://10.0.0.7:8000") == [(b"X", b"1"), (b"location", seen)]
