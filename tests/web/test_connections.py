"""Connections come and go, and nothing stays behind."""

import asyncio
import socket
from pathlib import Path

import pytest
from tests.web.raw_client import SECONDS, Application, ask, parse_answer, port_of, say, serving, until

from understudy.errors import UsageError
from understudy.web import HttpLimits, start_server

HEALTH = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /he", HEALTH, SLOW, b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nx"],
)
def test_a_thousand_dropped_connections_leave_no_task_and_no_transport(sent: bytes) -> None:
    """However far their requests had come; half of them are reset."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as (server, _):
            for start in range(0, 1000, 100):
                clients = []
                for number in range(start, start + 100):
                    client = socket.socket()
                    client.setblocking(False)
                    await loop.sock_connect(client, ("127.0.0.1", port_of(server)))
                    if number % 2:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    await loop.sock_sendall(client, sent)
                    clients.append(client)
                for client in clients:
                    client.close()
            await until(lambda: server.num_connections == 0 and len(asyncio.all_tasks()) == 1)

    asyncio.run(scenario())


def test_a_handler_is_cancelled_when_its_client_goes() -> None:
    """So work for nobody ends at once."""

    async def scenario() -> None:
        async with serving() as (server, application):
            _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(SLOW)
            await until(lambda: len(application.handled) == 1)
            writer.close()
            await until(lambda: application.cancelled == ["/slow"])

    asyncio.run(scenario())


def test_a_half_closed_client_gets_what_needs_no_waiting() -> None:
    """As from vLLM; what would take longer is ended, for most who close so are gone."""

    async def scenario() -> None:
        async with serving() as (server, application):
            for request, is_answered in (
                (HEALTH, True),
                (SLOW, False),
                (HEALTH + HEALTH, True),
                (b"GET /", False),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
                writer.write(request)
                writer.write_eof()
                data = await asyncio.wait_for(reader.read(), SECONDS)
                assert data.startswith(b"HTTP/1.1 200") is is_answered
                writer.close()
            assert application.cancelled == ["/slow"]

    asyncio.run(scenario())


def test_pipelined_requests_are_answered_in_order() -> None:
    """More of them than are read ahead."""

    async def scenario() -> None:
        async with serving() as (server, application):
            last = HEALTH.replace(b"Host", b"Connection: close\r\nHost")
            data = await say(port_of(server), HEALTH * 199 + last)
            assert data.count(b"HTTP/1.1 200") == 200
            assert application.handled == ["/health"] * 200

    asyncio.run(scenario())


def test_a_drain_finishes_what_is_in_work_and_takes_nothing_more() -> None:
    """Idle connections go at once, and the port with them; the last answer says that the connection ends."""

    async def scenario() -> None:
        application = Application(HttpLimits())
        server = await start_server(application.app, host="127.0.0.1")
        port = port_of(server)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        idle_writer.write(HEALTH)
        await idle_reader.readuntil(b"ok")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SLOW)
        await until(lambda: len(application.handled) == 2)
        drain = asyncio.create_task(server.drain(SECONDS))
        assert await asyncio.wait_for(idle_reader.read(), SECONDS) == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        assert not drain.done()
        application.release.set()
        answer = parse_answer(await asyncio.wait_for(reader.read(), SECONDS))
        assert (answer.status, answer.body) == (200, b"released")
        assert answer.headers["connection"] == "close"
        await asyncio.wait_for(drain, SECONDS)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for each in (writer, idle_writer):
            each.close()

    asyncio.run(scenario())


def test_a_drain_ends_though_a_handler_and_a_client_do_not() -> None:
    """What is in work by then is cancelled, and what a client does not take is thrown away."""

    async def scenario() -> None:
        application = Application(HttpLimits())
        server = await start_server(application.app, host="127.0.0.1")
        port = port_of(server)
        _, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(SLOW)
        _, deaf = await asyncio.open_connection("127.0.0.1", port, limit=1)
        body = b"x" * 16_000_000
        deaf.write(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await until(lambda: len(application.handled) == 2)
        await asyncio.wait_for(server.drain(0.05), SECONDS)
        assert application.cancelled == ["/slow"]
        assert server.num_connections == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for each in (slow, deaf):
            each.close()

    asyncio.run(scenario())


def test_a_unix_socket_serves_and_goes(tmp_path: Path) -> None:
    """One that a server left behind is no obstacle."""
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))

    async def scenario() -> None:
        server = await start_server(Application(HttpLimits()).app, uds=str(path))
        assert server.port is None
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(HEALTH)
        assert (await asyncio.wait_for(reader.readuntil(b"ok"), SECONDS)).startswith(b"HTTP/1.1 200")
        writer.close()
        await server.drain(1)

    asyncio.run(scenario())
    assert not path.exists()


def test_an_address_in_use_is_told_in_one_line() -> None:
    """With the address."""

    async def scenario() -> None:
        async with serving() as (server, _):
            with pytest.raises(UsageError, match=f"127.0.0.1:{server.port}"):
                await start_server(Application(HttpLimits()).app, host="127.0.0.1", port=port_of(server))
            assert (await ask(port_of(server), "/health")).status == 200

    asyncio.run(scenario())
