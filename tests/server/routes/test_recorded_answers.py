"""The operator's routes answer as `vllm serve` did when the same was asked in the same order."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.routes.fakes import Client, FakeServer, serve
from yarl import URL

from understudy.server.routes import adapters

RECORDED = json.loads(Path(__file__).with_name("vllm_operator_answers.json").read_text(encoding="utf-8"))


def _without_chance(answer: Any) -> Any:
    """Leave out what differs from one answer to the next: times and random ids."""
    if isinstance(answer, dict):
        hidden = {"created"} if answer.get("object") != "model_permission" else {"created", "id"}
        return {key: _without_chance(value) for key, value in answer.items() if key not in hidden}
    return [_without_chance(value) for value in answer] if isinstance(answer, list) else answer


@pytest.mark.parametrize("group", ["control", "power", "lora", "info"])
def test_answers_are_those_of_vllm(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, content type of JSON, and every key in its order; only times and random ids differ.

    The recorded server's engine took every adapter unseen.
    """
    monkeypatch.setattr(adapters, "_check_files", lambda *_: None)

    async def ask(_server: FakeServer, client: Client) -> None:
        for exchange in RECORDED[group]:
            method, path, body, content_type = exchange["request"]
            answer = await client.request(
                method,
                URL(path, encoded=True),
                data=None if body is None else body.encode("latin-1"),
                headers={} if content_type is None else {"Content-Type": content_type},
                skip_auto_headers=["Content-Type"],
            )
            text = await answer.text()
            assert answer.status == exchange["status"], exchange
            if exchange["content_type"] is None:
                assert text == exchange["answer"], exchange
            else:
                assert answer.headers["Content-Type"] == exchange["content_type"], exchange
                shown = json.dumps(_without_chance(json.loads(text)))
                assert shown == json.dumps(_without_chance(exchange["answer"])), exchange

    serve(ask)


def test_other_methods_are_refused_where_vllm_refuses_them() -> None:
    """HEAD above all; the page of metrics takes every method."""

    async def ask(_server: FakeServer, client: Client) -> None:
        for path, statuses in RECORDED["other_methods"].items():
            for method, status in statuses.items():
                assert (await client.request(method, path)).status == status, (method, path)

    serve(ask)


def test_the_page_of_metrics_has_the_content_types_of_vllm() -> None:
    """GET /metrics has another one than every other method and path."""

    async def ask(_server: FakeServer, client: Client) -> None:
        for place, content_type in RECORDED["metrics_content_types"].items():
            path, method = place.split()
            answer = await client.request(method, path)
            assert answer.headers["Content-Type"] == content_type, place
            assert await answer.read() == (b"" if method == "HEAD" else b"understudy 1.0\n")

    serve(ask)
