"""HTTP/1.1 on a bare socket: nothing is added, corrected or understood that a test wants to send or see as it is."""

import asyncio
from urllib.parse import urlsplit

from tests.differential.message import HttpAnswer, HttpRequest

HOST = "server.test"
"""The same for both servers, so that both write the same URL where they redirect."""
ANSWER_SECONDS = 60.0
NO_ANSWER = 0
"""The status that stands for silence, a broken connection and what is no HTTP; the body says which."""


class UnreachableError(Exception):
    """Nothing listens at the address."""


async def exchange(base_url: str, request: HttpRequest) -> HttpAnswer:
    """Send one request on a connection of its own and return the whole answer, or one of status `NO_ANSWER`.

    Raises:
        UnreachableError: no connection could be made.
    """
    address = urlsplit(base_url)
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except OSError as error:
        raise UnreachableError(f"{base_url} cannot be reached: {error}") from error
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(_on_the_wire(request))
            await writer.drain()
            return parsed(await reader.read(-1))
    except TimeoutError:
        return _no_answer(f"no end of an answer in {ANSWER_SECONDS:g} s")
    except OSError as error:
        return _no_answer(f"the connection broke: {error}")
    finally:
        writer.close()


def _on_the_wire(request: HttpRequest) -> bytes:
    headers = [("Host", HOST), ("Connection", "close"), *request.headers]
    if request.body or request.method == "POST":
        headers.append(("Content-Length", str(len(request.body))))
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


def parsed(answer: bytes) -> HttpAnswer:
    """Return what the bytes of a connection say, up to its end."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    words = status_line.split(" ", 2)
    if not separator or len(words) < 2 or not words[1].isdecimal():
        return _no_answer(f"no HTTP: {answer[:80]!r}")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.strip().lower(), value.strip()))
    whole = True
    if dict(headers).get("transfer-encoding", "").lower() == "chunked":
        body, whole = _joined(body)
    return HttpAnswer(int(words[1]), tuple(headers), body, whole)


def _joined(chunked: bytes) -> tuple[bytes, bool]:
    """Return the chunks as one, and whether the last of them came."""
    body = b""
    while True:
        size, separator, rest = chunked.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            return body, False
        if not separator or len(rest) < length:
            return body + rest[:length], False
        if length == 0:
            return body, True
        body += rest[:length]
        chunked = rest[length + 2 :]


def _no_answer(why: str) -> HttpAnswer:
    return HttpAnswer(NO_ANSWER, (), why.encode(), whole=False)
