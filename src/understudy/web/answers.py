"""Answers that no route gives, as FastAPI and uvicorn word them: `{"detail": reason phrase}`."""

from http import HTTPStatus

from aiohttp import web

_INVALID_REQUEST = "Invalid HTTP request received."


def error_answer(status: HTTPStatus, *, close: bool = False) -> web.Response:
    """Return the answer of FastAPI to an HTTP error; `close` ends the connection behind it."""
    answer = web.Response(status=status, body=_detail(status), content_type="application/json")
    if close:
        answer.force_close()
    return answer


def invalid_request() -> web.Response:
    """Return uvicorn's answer to what is no HTTP request; it ends the connection."""
    answer = web.Response(status=HTTPStatus.BAD_REQUEST, text=_INVALID_REQUEST)
    answer.force_close()
    return answer


def internal_error() -> web.Response:
    """Return Starlette's answer to an exception that nobody caught; it ends the connection."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    answer = web.Response(status=status, text=status.phrase)
    answer.force_close()
    return answer


def raw_error_answer(status: HTTPStatus, server_name: str) -> bytes:
    """Return a whole answer as bytes, for a connection that gets no other."""
    body = _detail(status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nServer: {server_name}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _detail(status: HTTPStatus) -> bytes:
    return b'{"detail":"%b"}' % status.phrase.encode()
