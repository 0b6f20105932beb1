"""A server that answers each request with what was recorded for it, so that the tool can be tested without vLLM."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.differential.message import HttpAnswer, HttpRequest


@asynccontextmanager
async def recorded_server(answers: Mapping[HttpRequest, HttpAnswer]) -> AsyncIterator[str]:
    """Serve the answers on a port of its own and yield the URL; other requests break the connection."""
    by_key = {_key(f"{one.method} {one.path}", one.body): answer for one, answer in answers.items()}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = head.strip().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("Content-Length:")), 0)
        answer = by_key.get(_key(start.rpartition(" ")[0], await reader.readexactly(length)))
        if answer is not None:
            named = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
            writer.write(f"HTTP/1.1 {answer.status} Status\r\n{named}\r\n".encode("latin-1") + answer.body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _key(start: str, body: bytes) -> bytes:
    return start.encode("latin-1") + b"\n" + body
