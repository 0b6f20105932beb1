"""Answers that no route gives, in Starlette's shapes."""

import asyncio
import logging

import pytest
from aiohttp import web
from tests.web.raw_client import Answer, ask, parse_answer, port_of, say, serving

from understudy.web import start_server


async def _ask(target: str, method: str = "GET", host: str = "test") -> Answer:
    async with serving() as (server, _):
        request = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        return parse_answer(await say(port_of(server), request.encode("latin-1")))


@pytest.mark.parametrize(
    ("target", "method", "status", "body", "allow"),
    [
        ("/nowhere", "GET", 404, b'{"detail":"Not Found"}', None),
        ("/", "GET", 404, b'{"detail":"Not Found"}', None),
        ("/nowhere/", "POST", 404, b'{"detail":"Not Found"}', None),
        ("//v1/models", "GET", 404, b'{"detail":"Not Found"}', None),
        ("http://test/v1/models", "GET", 404, b'{"detail":"Not Found"}', None),
        ("*", "OPTIONS", 404, b'{"detail":"Not Found"}', None),
        ("test:80", "CONNECT", 404, b'{"detail":"Not Found"}', None),
        ("/v1/models", "DELETE", 405, b'{"detail":"Method Not Allowed"}', "GET"),
        ("/v1/models", "OPTIONS", 405, b'{"detail":"Method Not Allowed"}', "GET"),
        ("/echo", "GET", 405, b'{"detail":"Method Not Allowed"}', "POST"),
        ("/twice", "DELETE", 405, b'{"detail":"Method Not Allowed"}', "GET"),
    ],
)
def test_what_has_no_route_is_told_as_fastapi_does(
    target: str, method: str, status: int, body: bytes, allow: str | None
) -> None:
    """With its body, its type without a charset, and the method of the first route of the path."""
    answer = asyncio.run(_ask(target, method))
    assert (answer.status, answer.body, answer.headers.get("allow")) == (status, body, allow)
    assert answer.headers["content-type"] == "application/json"


def test_a_head_request_is_no_get() -> None:
    """405 without a body, as vLLM answers HEAD /health."""
    answer = asyncio.run(_ask("/health", "HEAD"))
    assert (answer.status, answer.body, answer.headers["allow"]) == (405, b"", "GET")


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/v1/models/", "127.0.0.1:8123", "http://127.0.0.1:8123/v1/models"),
        ("/v1/models/?a=b%20c", "127.0.0.1:8123", "http://127.0.0.1:8123/v1/models?a=b%20c"),
        ("/v1/models///?x", "127.0.0.1:8123", "http://127.0.0.1:8123/v1/models?x"),
        ("/v1/m%6fdels%2f?q", "h:1", "http://h:1/v1/models?q"),
        ("/slash", "h", "http://h/slash/"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_one_slash_more_or_less_is_redirected(target: str, host: str, location: str, method: str) -> None:
    """Any method, to the host that was asked for, with the query as it came and no body."""
    answer = asyncio.run(_ask(target, method, host))
    assert (answer.status, answer.headers["location"]) == (307, location)
    assert (answer.headers["content-length"], answer.body) == ("0", b"")
    assert "content-type" not in answer.headers


def test_a_redirect_leads_to_no_other_host() -> None:
    """A path that looks like a host remains a path."""
    answer = asyncio.run(_ask("//evil.example/v1/models/"))
    assert answer.status == 404


def test_what_goes_wrong_inside_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    """The client hears of an error, the log hears of which one."""
    with caplog.at_level(logging.ERROR):
        answer = asyncio.run(_ask("/broken"))
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    "request_bytes", [b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n", b"nonsense\r\n\r\n"]
)
def test_the_server_is_called_as_the_caller_says(request_bytes: bytes) -> None:
    """In answers of handlers and in those to nonsense."""

    async def scenario() -> None:
        async with serving(server_name="my server") as (server, _):
            request = request_bytes.replace(b"Host", b"Connection: close\r\nHost")
            assert parse_answer(await say(port_of(server), request)).headers["server"] == "my server"

    asyncio.run(scenario())


def test_a_single_handler_serves_every_path() -> None:
    """An application is not needed."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.path}")

    async def scenario() -> None:
        server = await start_server(handler, host="127.0.0.1")
        assert (await ask(port_of(server), "/a/b", "DELETE")).body == b"DELETE /a/b"
        await server.drain(1)

    asyncio.run(scenario())
