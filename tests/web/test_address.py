"""The address of a server, from before it accepts connections."""

import asyncio
import errno
import os
import socket

import pytest
from tests.web.raw_client import Application, ask, port_of, serving

from understudy.errors import UsageError
from understudy.web import HttpLimits, bound_socket, start_server


def _port(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def test_an_address_that_is_held_refuses_and_nobody_else_gets_it() -> None:
    """Not even who would share it; then it is served from the same socket."""

    async def main() -> None:
        with bound_socket("127.0.0.1", 0) as bound:
            port = _port(bound)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                    other.bind(("127.0.0.1", port))
            async with serving(bound=bound) as (server, _):
                assert port_of(server) == port
                assert (await ask(port, "/health")).status == 200

    asyncio.run(main())


def test_an_address_is_had_again_though_old_connections_are_left() -> None:
    """Open ones, and closed ones that the system has not forgotten."""

    async def main() -> None:
        async with serving() as (server, _):
            port = port_of(server)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await ask(port, "/health")).status == 200
            server.refuse()
            bound_socket("127.0.0.1", port).close()
            await server.accept()
            assert (await ask(port, "/health")).status == 200
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("127.0.0.1", 65536, "cannot listen on 127.0.0.1:65536: the port must be from 0 to 65535"),
        ("127.0.0.1", -1, "cannot listen on 127.0.0.1:-1: the port must be from 0 to 65535"),
        ("192.0.2.1", 0, "cannot listen on 192.0.2.1:0: "),
    ],
)
def test_an_address_that_cannot_be_had_is_named(host: str, port: int, says: str) -> None:
    """In one sentence."""

    async def main() -> None:
        with pytest.raises(UsageError, match=says):
            await start_server(Application(HttpLimits()).app, host=host, port=port)

    asyncio.run(main())
