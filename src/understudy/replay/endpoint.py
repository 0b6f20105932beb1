"""The endpoint that a trace is sent to: its address, how to be let in, and what it says of itself."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import msgspec

from understudy.errors import InputError, UsageError
from understudy.replay.shown import shown

CONNECT_SECONDS = 10.0
"""How long a connection may take to be established, on a clock on the wall."""

_ANSWER_SECONDS = 30.0
_MAX_PAGE_BYTES = 1 << 22
_OK = 200
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`base` has neither a path of the API nor a slash at its end; the key is shown nowhere."""

    base: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"Accept-Encoding": "identity"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers

    def without_key(self, text: str) -> str:
        """Return a text of the server's, made harmless, with dots in place of the key."""
        hidden = text.replace(self.api_key, "…") if self.api_key else text
        return shown(hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an endpoint says of itself: the model to ask for, how long its context is, and vLLM's version, where told."""

    model: str
    max_model_len: int | None = None
    version: str | None = None


class _Model(msgspec.Struct, gc=False):
    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct, gc=False):
    data: list[_Model]


class _Version(msgspec.Struct, gc=False):
    version: str


def endpoint(url: str, api_key: str | None) -> Endpoint:
    """Return the endpoint at a URL, with or without /v1 at its end.

    Raises UsageError for what is no address of an HTTP server, or a key that no header can carry.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--url {url!r}: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise UsageError(f"--url must be of the form http://HOST:PORT or https://HOST, got {url!r}")
    if "@" in parts.netloc:
        raise UsageError(
            "--url must not hold a name or a password: a key is given by OPENAI_API_KEY or --api-key"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"--url must end with its path, got {url!r}")
    if api_key is not None and not (
        api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key
    ):
        raise UsageError("the API key must be of printable ASCII characters, without blanks around")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Endpoint(base=f"{parts.scheme}://{parts.netloc}{path}", api_key=api_key or None)


async def ask_served(session: aiohttp.ClientSession, endpoint: Endpoint, model: str | None) -> Served:
    """Return what the endpoint says of itself; `model` None means the first that it lists.

    Raises InputError if nobody answers there, the key is refused, or there is no model to ask for.
    """
    status, page = await _page(session, endpoint, "/v1/models")
    if status != _OK and (model is None or status != _NOT_FOUND):
        said = endpoint.without_key(page.decode(errors="replace"))
        raise InputError(f"{endpoint.base}/v1/models answers {status}: {said}")
    models = _models(page) if status == _OK else []
    if model is None:
        if not models:
            raise InputError(f"{endpoint.base}/v1/models lists no model: name one with --model")
        model = models[0].id
    found = next((each for each in models if each.id == model), None)
    return Served(
        model=model,
        max_model_len=None if found is None else found.max_model_len,
        version=await _version(session, endpoint),
    )


def _models(page: bytes) -> list[_Model]:
    try:
        return msgspec.json.decode(page, type=_Models).data
    except msgspec.DecodeError:
        return []


async def _version(session: aiohttp.ClientSession, endpoint: Endpoint) -> str | None:
    """Return the version that vLLM's route tells; other servers have none."""
    try:
        status, page = await _page(session, endpoint, "/version")
        return shown(msgspec.json.decode(page, type=_Version).version) if status == _OK else None
    except (InputError, msgspec.DecodeError):
        return None


async def _page(session: aiohttp.ClientSession, endpoint: Endpoint, path: str) -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
    try:
        async with session.get(
            endpoint.base + path, headers=endpoint.headers, timeout=timeout, allow_redirects=False
        ) as response:
            return response.status, await response.content.read(_MAX_PAGE_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        said = "no answer in time" if isinstance(error, TimeoutError) else shown(str(error))
        raise InputError(f"cannot reach {endpoint.base}: {said}") from None
