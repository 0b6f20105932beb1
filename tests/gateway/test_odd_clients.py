"""Clients whose requests are unusual, and not wrong, are served; what is salted for them stays what it was."""

import asyncio
import json

import msgspec
import pytest
from tests.gateway.routed import Routed, routed
from tests.server.serving import MODEL
from tests.support.virtual_time import run_in_virtual_time

from understudy.gateway.upstream import ConnectFailedError, Upstream, WorkerAddress


def test_a_key_that_is_no_text_is_a_key() -> None:
    """Bytes beyond UTF-8 in a header that the router only passes on fail nothing."""

    async def main() -> bytes:
        async with routed(1, has_events=False, knowledge="own") as served:
            return await _status_line(served, b"Bearer \xff\xfe")

    assert run_in_virtual_time(main()) == b"HTTP/1.1 200 OK"


async def _status_line(served: Routed, authorization: bytes) -> bytes:
    body = json.dumps({"model": MODEL, "prompt": "hello", "max_tokens": 1}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.running.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (authorization, len(body), body)
    )
    line = await reader.readuntil(b"\r\n")
    writer.close()
    await writer.wait_closed()
    return line.strip()


def test_a_salt_changes_nothing_else_of_a_body() -> None:
    """Numbers, escapes and spaces within values reach the worker as they were written, the client's salt does not."""

    async def main() -> bytes:
        async with routed(1, has_events=False, knowledge="own", api_key=("k",), tenant_salt="key") as served:
            return served.router.reader._salted(
                b'{"a": 1.50, "cache_salt": "mine", "b": [ 1e3,"\\u00e9" ]}', "k", is_json=True
            )

    salted = run_in_virtual_time(main())
    values = msgspec.json.decode(salted, type=dict[str, msgspec.Raw])
    assert bytes(values["a"]) == b"1.50"
    assert bytes(values["b"]) == b'[ 1e3,"\\u00e9" ]'
    assert b"mine" not in salted


def test_nobody_is_connected_to_a_worker_that_has_left_meanwhile() -> None:
    """A connection that comes after the worker was removed is not used, and not kept."""

    async def main() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            upstream = Upstream(WorkerAddress.parse(f"http://127.0.0.1:{port}"))
            connecting = asyncio.create_task(upstream.connect())
            await asyncio.sleep(0)
            upstream.abort()
            with pytest.raises(ConnectFailedError):
                await connecting
            assert upstream.num_open == 0

    asyncio.run(main())
