"""Clients that read slowly, seldom or not at all: the memory is bounded, and nobody else notices."""

import asyncio
import socket
from typing import Any

from tests.server.serving import MODEL, Reply, Served, raw_request, reply_of, serving, until
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.event_stream import MAX_UNSENT_BYTES

FLAGS = ("--max-model-len", "16384", "--max-num-seqs", "8")


def _text(reply: Reply) -> str:
    return "".join(event["choices"][0]["text"] for event in reply.events if event["choices"])


async def _slow_stream(
    server: Served, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request over a connection that takes little before it has to be read."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    assert server.running.port is not None
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", server.running.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's own transports can
    writer.write(raw_request("/v1/completions", {"model": MODEL, "stream": True} | body))
    return reader, writer


def test_who_does_not_read_gets_tokens_together() -> None:
    """Little waits in the server, all text comes in the end, in fewer events; a stream beside has one a token."""
    num_tokens = 1_500
    body: dict[str, Any] = {"prompt": "hi", "max_tokens": num_tokens, "seed": 1}

    async def main() -> None:
        async with serving(*FLAGS) as server:
            reader, writer = await _slow_stream(server, body)
            await until(lambda: server.running.num_connections == 1)
            (connection,) = server.running._connections.served
            connection._wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            beside = asyncio.create_task(server.complete(**body | {"seed": 2}, stream=True))
            most_unsent = 0
            while not beside.done():
                await asyncio.sleep(1)
                most_unsent = max(most_unsent, connection._wire.get_write_buffer_size())
            assert MAX_UNSENT_BYTES / 2 < most_unsent < 4 * MAX_UNSENT_BYTES
            assert len((await beside).events) == num_tokens
            writer.transport.resume_reading()  # type: ignore[attr-defined] # asyncio's own transports can
            seen = _dechunked(await reader.read())
            writer.close()
            slow = reply_of(200, {"Content-Type": "text/event-stream"}, seen)
            assert slow.ends_with_done
            assert len(slow.events) < num_tokens
            assert _text(slow) == (await server.complete(**body)).json["choices"][0]["text"]
            assert slow.events[-1]["choices"][0]["finish_reason"] == "length"

    run_in_virtual_time(main())


def _dechunked(data: bytes) -> str:
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body.decode()


def test_a_quiet_stream_is_kept_alive() -> None:
    """A comment whenever so many seconds pass without an event: before the first token, and between two."""

    async def main() -> None:
        flags = (
            "--sse-keep-alive-interval",
            "2",
            "--prefill-base-seconds",
            "5",
            "--decode-seconds-per-step",
            "3",
        )
        async with serving(*FLAGS, *flags) as server:
            stream = await server.open("/v1/completions", {"prompt": "hi", "max_tokens": 3, "stream": True})
            seconds: list[float] = []
            start = asyncio.get_running_loop().time()
            seen = b""
            while piece := await stream.reader.read(65536):
                seen += piece
                seconds += [asyncio.get_running_loop().time() - start] * piece.count(b": keep-alive\n\n")
            await stream.close()
            assert [round(at) for at in seconds] == [2, 4, 7, 10]
            assert seen.count(b"data: ") == 4
            whole = await server.complete(prompt="hi", max_tokens=3)
            assert "keep-alive" not in whole.text

    run_in_virtual_time(main())


def test_the_interval_of_a_stream() -> None:
    """The first token at once, then so many in an event, and the rest at the end; a request may ask for more, not less."""

    async def sizes(server: Served, **extra: Any) -> list[int]:
        reply = await server.complete(prompt="hi", max_tokens=12, stream=True, return_token_ids=True, **extra)
        return [len(event["choices"][0]["token_ids"]) for event in reply.events]

    async def main() -> None:
        async with serving(*FLAGS, "--stream-interval", "4") as server:
            assert await sizes(server) == [1, 4, 4, 3]
            assert await sizes(server, stream_interval=6) == [1, 6, 5]
            assert await sizes(server, stream_interval=1) == [1, 4, 4, 3]

    run_in_virtual_time(main())
