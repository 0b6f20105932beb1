"""Health, load, events, models, and the configuration without its secrets."""

import json
from dataclasses import replace

import pytest
from tests.server.routes.fakes import Client, FakeServer, serve

from understudy.server.context import Adapter
from understudy.server.routes import info
from understudy.server.routes.info import KV_EVENT_SOURCES, TOKENIZER_INFO, ServerLoad

HIDDEN = "sk-do-not-show"


def test_a_dead_engine_is_unhealthy() -> None:
    """/health and /ping answer 503, by GET and by POST."""

    async def check(server: FakeServer, client: Client) -> None:
        server.frontend.is_dead = True
        for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
            answer = await client.request(method, path)
            assert (answer.status, await answer.read()) == (503, b"")

    serve(check)


@pytest.mark.parametrize("is_enabled", [False, True])
def test_load_counts_only_where_it_is_asked_to(is_enabled: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """And what ends in an error is over too."""
    load = ServerLoad(is_enabled=is_enabled)

    def fail() -> None:
        with load.tracked():
            assert load.num_requests == 2 * is_enabled
            raise ZeroDivisionError

    with load.tracked():
        with pytest.raises(ZeroDivisionError):
            fail()
        assert load.num_requests == int(is_enabled)
    assert load.num_requests == 0


def test_documents_of_others_are_shown_as_they_are_now() -> None:
    """KV event sources and the tokenizer's configuration come from callables."""

    async def check(_server: FakeServer, client: Client) -> None:
        for path, number in (("/kv_event_sources", 1), ("/kv_event_sources", 2), ("/tokenizer_info", 3)):
            numbers.append(number)
            assert await (await client.get(path)).json() == {"n": number}

    numbers: list[int] = []

    class Documented(FakeServer):
        def __init__(self) -> None:
            super().__init__()
            self.app[KV_EVENT_SOURCES] = lambda: {"n": numbers[-1]}
            self.app[TOKENIZER_INFO] = lambda: {"n": numbers[-1]}
            self.app.add_routes(info.TOKENIZER_INFO_ROUTES)

    serve(check, make=Documented)


def test_every_name_has_a_card() -> None:
    """Adapters come last, under the model that they name or the first name."""

    async def check(server: FakeServer, client: Client) -> None:
        models = server.context.models
        models.names = ("m", "alias")
        server.context.base_limits = replace(server.context.base_limits, served_model_names=models.names)
        models.adapters["a"] = Adapter("a", "/a", 1)
        models.adapters["b"] = Adapter("b", "/b", 2, "alias")
        cards = (await (await client.get("/v1/models")).json())["data"]
        assert [(card["id"], card["root"], card["parent"], card["max_model_len"]) for card in cards] == [
            ("m", "model-root", None, 4096),
            ("alias", "model-root", None, 4096),
            ("a", "/a", "m", None),
            ("b", "/b", "alias", None),
        ]

    serve(check)


def test_the_configuration_has_no_secrets() -> None:
    """Neither form shows keys and tokens, wherever they stand; what has to do with tokens of text is shown."""

    async def check(_server: FakeServer, client: Client) -> None:
        for config_format in ("text", "json"):
            text = await (await client.get(f"/server_info?config_format={config_format}")).text()
            assert HIDDEN not in text
            document = json.loads(text)
            assert list(document) == ["vllm_config", "vllm_env", "system_env"]
            assert document["vllm_env"] == {"VLLM_SERVER_DEV_MODE": "1"}
        config = document["vllm_config"]
        assert config["scheduler_config"]["max_num_batched_tokens"] == 2048
        assert config["cache_config"]["num_gpu_blocks"] == 100
        assert config["model_config"]["tokenizer"] == "there"
        assert config["kv_transfer_config"] == {"kv_connector": "here", "extra": [{}]}
        assert config["lora_config"] is None

    serve(
        check,
        arguments={
            "api_key": [HIDDEN],
            "hf_token": HIDDEN,
            "tokenizer": "there",
            "kv_transfer_config": {"kv_connector": "here", "extra": [{"Password": HIDDEN}]},
        },
        environment={"VLLM_API_KEY": HIDDEN, "VLLM_SERVER_DEV_MODE": "1", "HOME": HIDDEN},
    )


def test_the_text_form_is_one_line_as_vllm_prints_it() -> None:
    """Names and order are vLLM's."""

    async def check(_server: FakeServer, client: Client) -> None:
        document = await (await client.get("/server_info")).json()
        assert document["vllm_config"] == (
            "model='here', tokenizer='there', max_seq_len=4096, tensor_parallel_size=2, served_model_name=m, "
            "enable_prefix_caching=True, enable_chunked_prefill=True"
        )

    serve(check, arguments={"tensor_parallel_size": 2, "model": "here", "tokenizer": "there"})
