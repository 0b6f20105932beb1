"""Addresses, keys and models: what is accepted, and what an endpoint says of itself."""

import pytest
from aiohttp import web
from tests.replay.endpoints import MODEL, faking, whole
from tests.server.serving import serving
from tests.support.virtual_time import run_in_virtual_time

from understudy import VLLM_VERSION
from understudy.errors import InputError, UsageError
from understudy.replay import Served, ask_served, endpoint, open_session


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        ("https://h/v1/", "https://h"),
        ("https://h/proxy/v1", "https://h/proxy"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses(url: str, base: str) -> None:
    """With or without the API's path and a slash."""
    assert endpoint(url, None).base == base


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "must be of the form"),
        ("127.0.0.1:8000", "must be of the form"),
        ("ftp://h", "must be of the form"),
        ("http://", "must be of the form"),
        ("http://h:0", "must be of the form"),
        ("http://h:99999", "Port out of range"),
        ("http://user:secret@h", "must not hold a name or a password"),
        ("http://h/v1?key=secret", "must end with its path"),
    ],
)
def test_addresses_that_are_none(url: str, told: str) -> None:
    """One sentence says what is accepted; a password is not repeated."""
    with pytest.raises(UsageError, match=told) as raised:
        endpoint(url, None)
    assert "secret@" not in str(raised.value)


@pytest.mark.parametrize("key", ["a\r\nX: 1", "ключ", " abc123"])
def test_keys_that_no_header_carries(key: str) -> None:
    """They are refused, and not repeated."""
    with pytest.raises(UsageError, match="must be of printable ASCII") as raised:
        endpoint("http://h", key)
    assert key not in str(raised.value)


def test_an_emulated_worker() -> None:
    """It tells its model, its context and its version; a model that is not listed is asked for all the same."""

    async def run() -> list[Served]:
        async with serving("--max-model-len", "512", "--api-key", "k") as server, open_session() as session:
            target = endpoint(server.url, "k")
            with pytest.raises(InputError, match="/v1/models answers 401"):
                await ask_served(session, endpoint(server.url, "wrong"), None)
            return [await ask_served(session, target, model) for model in (None, "adapter")]

    known, other = run_in_virtual_time(run())
    assert known == Served(model="llama-3.1-8b", max_model_len=512, version=VLLM_VERSION)
    assert other == Served(model="adapter", version=VLLM_VERSION)


@pytest.mark.parametrize("page", ["[]", '{"data": []}', "nonsense", '{"data": [{}]}'])
def test_endpoints_without_models(page: str) -> None:
    """Then --model must name one, and does."""

    async def run() -> None:
        async def models(_request: web.Request) -> web.Response:
            return web.Response(text=page)

        application = web.Application()
        application.router.add_get("/v1/models", models)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [(host, port)] = runner.addresses
        try:
            async with open_session() as session:
                target = endpoint(f"http://{host}:{port}", None)
                with pytest.raises(InputError, match="lists no model: name one with --model"):
                    await ask_served(session, target, None)
                assert await ask_served(session, target, "m") == Served(model="m")
        finally:
            await runner.cleanup()

    run_in_virtual_time(run())


def test_servers_that_are_not_vllm() -> None:
    """A version is not needed."""

    async def run() -> Served:
        async with faking(whole, max_model_len=7) as fake, open_session() as session:
            return await ask_served(session, endpoint(fake.url, None), None)

    assert run_in_virtual_time(run()) == Served(model=MODEL, max_model_len=7, version=None)
