"""CORS answers as Starlette answers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.web.raw_client import Application, ask, port_of, serving

from understudy.web import ApiKeys, CorsPolicy, HttpLimits, auth_middleware, install_cors

STARLETTE: dict[str, Any] = json.loads(Path(__file__).with_name("starlette_cors.json").read_text())


def _policy(config: dict[str, Any]) -> CorsPolicy:
    return CorsPolicy(
        config["allowed_origins"],
        config["allowed_methods"],
        config["allowed_headers"],
        allow_credentials=config["allow_credentials"],
    )


async def _answer(config: dict[str, Any], cases: list[list[Any]]) -> list[dict[str, Any]]:
    application = Application(HttpLimits())

    async def varying(request: web.Request) -> web.Response:
        vary = request.headers.get("Test-Vary")
        return web.Response(text="app", headers={} if vary is None else {"Vary": vary})

    application.app.router.add_route("*", "/vary", varying)
    install_cors(application.app, _policy(config))
    answers = []
    async with serving(application=application) as (server, _):
        for method, headers, vary, _ in cases:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            lines += [] if vary is None else [f"Test-Vary: {vary}"]
            answer = await ask(port_of(server), "/vary", method, lines)
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name == "vary" or name.startswith("access-control-")
            }
            answers.append({"status": answer.status, "headers": kept, "body": answer.body.decode()})
    return answers


@pytest.mark.parametrize(("config", "cases"), STARLETTE["configs"])
def test_answers_are_starlettes(config: dict[str, Any], cases: list[list[Any]]) -> None:
    """Status, text and headers, for preflights and for everything else."""
    assert asyncio.run(_answer(config, cases)) == [answer for *_, answer in cases]


def test_errors_of_no_route_vary_by_origin_and_refusals_for_want_of_a_key_do_not() -> None:
    """As in vLLM, where keys are asked for before CORS has its say."""

    async def scenario() -> None:
        application = Application(HttpLimits())
        application.app.middlewares.append(auth_middleware(ApiKeys(["key"])))
        install_cors(application.app, CorsPolicy(["*"]))
        async with serving(application=application) as (server, _):
            port = port_of(server)
            refused = await ask(port, "/v1/models", headers=["Origin: https://a.example"])
            assert refused.status == 401
            assert not {"vary", "access-control-allow-origin"} & refused.headers.keys()
            headers = ["Origin: https://a.example", "Authorization: Bearer key"]
            for target, method, status in [
                ("/nowhere", "GET", 404),
                ("/v1/models", "DELETE", 405),
                ("/v1/models/", "GET", 307),
            ]:
                answer = await ask(port, target, method, headers)
                assert answer.status == status
                assert answer.headers["vary"] == "Origin"
                assert answer.headers["access-control-allow-origin"] == "*"

    asyncio.run(scenario())
