"""Short questions to one worker over HTTP, beside its requests: bounded in time and in bytes, and wherever it points, nobody follows."""

import asyncio
import ssl
from typing import NamedTuple

import aiohttp

from understudy.errors import InputError
from understudy.gateway.answer_body import bounded_body

CONNECTIONS = 1024
"""Questions under way at a time, to all workers together."""


class NoAnswerError(InputError):
    """A worker could not be asked, or gave no answer that can be taken; the message goes on from "the worker"."""


class Answer(NamedTuple):
    """What a worker said."""

    status: int
    body: bytes


def question_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Return the session for all questions to all workers; make it in the event loop, and close it.

    `tls`: whom to trust at https addresses, None for the system's certificates.
    """
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=True if tls is None else tls)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "understudy-route"},
    )


class WorkerHttp:
    """Asks the worker at a URL without trailing slash; `api_key` is what it wants, None for nothing."""

    def __init__(self, url: str, session: aiohttp.ClientSession, api_key: str | None = None) -> None:
        self.url = url
        self._session = session
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

    async def get(self, path: str, *, seconds: float, most_bytes: int) -> Answer:
        """Return the answer to GET; raises NoAnswerError, also for one that is longer or takes longer in all."""
        return await self._ask("GET", path, None, seconds, most_bytes)

    async def post(self, path: str, json_body: bytes, *, seconds: float, most_bytes: int) -> Answer:
        """Return the answer to POST with a JSON body; raises as `get`."""
        return await self._ask("POST", path, json_body, seconds, most_bytes)

    async def _ask(
        self, method: str, path: str, body: bytes | None, seconds: float, most_bytes: int
    ) -> Answer:
        headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method,
                    self.url + path,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as response,
            ):
                body = await bounded_body(response, most_bytes)
                if body is None:
                    raise NoAnswerError(f"answers {path} with more than {most_bytes} bytes")
                return Answer(response.status, body)
        except TimeoutError:
            raise NoAnswerError(f"does not answer {path} within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise NoAnswerError(f"does not answer {path}: {told}") from None
