"""Sends one request and reads its answer. Nothing is sent twice, no redirect is followed."""

import asyncio
from contextlib import suppress

import aiohttp

from understudy.replay.endpoint import CONNECT_SECONDS, Endpoint
from understudy.replay.exchange import Exchange
from understudy.replay.trace_clock import TraceClock

_OK = 200
_PATH = "/v1/completions"
_MAX_ERROR_BYTES = 4096
_KEEP_ALIVE_SECONDS = 2.0
"""Shorter than any usual server's, so that no request meets a connection that is just being closed."""

_ENDING_SECONDS = 1.0
"""How long a server may take, on a clock on the wall, to end its answer after [DONE]."""


def open_session() -> aiohttp.ClientSession:
    """Return a session that keeps connections, but no cookies and no limits; the caller closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class Client:
    """Asks one endpoint. An answer may take `timeout_seconds` on a clock on the wall, None for ever."""

    def __init__(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, timeout_seconds: float | None
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS)

    async def ask(self, exchange: Exchange, clock: TraceClock) -> None:
        """Send a request and see its answer to the end; whatever goes wrong becomes its status."""
        try:
            await self._ask(exchange, clock)
        except aiohttp.ClientConnectorError as error:
            self._end(exchange, "unreachable", str(error))
        except TimeoutError:
            self._end(exchange, "timeout", None)
        except (aiohttp.ClientError, OSError) as error:
            self._end(exchange, "broken", str(error))

    async def _ask(self, exchange: Exchange, clock: TraceClock) -> None:
        answer, order = exchange.answer, exchange.order
        exchange.sent_ns = clock.now_ns()
        async with self._session.post(
            self._endpoint.base + _PATH,
            data=order.body,
            headers={**self._endpoint.headers, **order.headers},
            timeout=self._timeout,
            allow_redirects=False,
        ) as response:
            exchange.worker_name = self._header(response, "X-Understudy-Worker")
            exchange.reason = self._header(response, "X-Understudy-Reason")
            for name, value in response.headers.items():
                answer.told(name, value)
            if response.status != _OK:
                page = await response.content.read(_MAX_ERROR_BYTES)
                self._end(exchange, f"http-{response.status}", page.decode(errors="replace"))
                return
            if response.content_type != "text/event-stream":
                self._end(exchange, "unreadable", f"an answer of type {response.content_type}, no stream")
                return
            async for data in response.content.iter_any():
                answer.feed(data, clock.now_ns())
                if answer.is_over:
                    break
            self._end(exchange, answer.status(), answer.message)
            if answer.is_done:
                await _read_to_the_end(response)

    def _end(self, exchange: Exchange, status: str, message: str | None) -> None:
        exchange.status = status
        exchange.message = None if message is None else self._endpoint.without_key(message)

    def _header(self, response: aiohttp.ClientResponse, name: str) -> str | None:
        value = response.headers.get(name)
        return None if value is None else self._endpoint.without_key(value)


async def _read_to_the_end(response: aiohttp.ClientResponse) -> None:
    """Read what comes after [DONE], so that the connection can be used again; else it is closed."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_ENDING_SECONDS):
            while await response.content.readany():
                pass
