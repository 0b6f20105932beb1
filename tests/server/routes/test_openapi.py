"""What /openapi.json says."""

import asyncio
import gzip
import json
from importlib.resources import files
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.server.routes.record_openapi import PROSE, facts

from understudy.server.routes import openapi

DATA = files("understudy.server.routes") / "data" / "vllm-0.33-openapi.json.gz"


def test_it_describes_what_is_served() -> None:
    """Routes that do not exist here are not in it, and every reference leads somewhere."""

    async def main() -> dict[str, Any]:
        app = web.Application()
        app.add_routes([*openapi.ROUTES, web.post("/v1/completions", openapi.openapi)])
        async with TestClient(TestServer(app)) as client, client.get("/openapi.json") as answer:
            assert answer.status == 200
            document: dict[str, Any] = await answer.json()
            return document

    document = asyncio.run(main())
    assert list(document["paths"]) == ["/v1/completions"]
    assert "CompletionRequest" in document["components"]["schemas"]
    for reference in _references(document):
        place: Any = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


def test_facts_are_kept_and_prose_is_not() -> None:
    """A field may be called like a word of OpenAPI; taking the prose away again changes nothing."""
    document = json.loads(gzip.decompress(DATA.read_bytes()))
    assert facts(document) | {"info": document["info"]} == document
    field = {"properties": {"title": {"type": "string", "title": "Title", "description": "Whose?"}}}
    assert facts(field) == {"properties": {"title": {"type": "string"}}}
    assert "description" in PROSE


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [reference for item in value.values() for reference in _references(item)]
    return [reference for item in value for reference in _references(item)] if isinstance(value, list) else []
