"""Requests to all that is not generation: information, unknown paths, wrong methods, routes that are not enabled."""

from random import Random
from typing import Any

from tests.differential import prompts
from tests.differential.message import HttpRequest
from tests.differential.wire_forms import encoded, headers, odd_headers

_INFORMATION = (
    *(
        "/v1/models",
        "/version",
        "/health",
        "/ping",
        "/load",
        "/kv_event_sources",
        "/openapi.json",
        "/docs",
        "/redoc",
    ),
    *("/metrics", "/v1/models/m", "/v1/responses/resp_none", "/v1/responses/none", "/docs/oauth2-redirect"),
)
_GENERATION = (
    *("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/v1/responses", "/v1/messages"),
    *("/v1/messages/count_tokens", "/v1/chat/completions/batch", "/invocations", "/generative_scoring"),
)
_UNKNOWN = (
    *(
        "/",
        "/v1",
        "/v1/",
        "/nope",
        "/v1/nope",
        "/v1/embeddings",
        "/v1/score",
        "/score",
        "/rerank",
        "/v1/rerank",
        "/pooling",
    ),
    *(
        "/classify",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/realtime",
        "/v2/models",
        "/v1//models",
    ),
    *(
        "//v1/models",
        "/V1/models",
        "/v1/models%20",
        "/v1/completion",
        "/health/x",
        "/tokenizer_info",
        "/favicon.ico",
    ),
    *(
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/reset_prefix_cache",
        "/sleep?level=1",
        "/wake_up",
    ),
    *(
        "/is_sleeping",
        "/server_info",
        "/collective_rpc",
        "/pause",
        "/resume",
        "/start_profile",
        "/stop_profile",
    ),
    *(
        "/get_server_info",
        "/get_model_info",
        "/model_info",
        "/abort_requests",
        "/update_weights",
        "/is_paused",
    ),
    *("/v1/files", "/v1/batches", "/v1/images/generations", "/v1/moderations", "/api/generate", "/api/tags"),
)
_NOT_ENABLED = (
    *(
        "/inference/v1/generate",
        "/inference/v1/abort_requests",
        "/v1/completions/render",
        "/v1/chat/completions/render",
    ),
    *(
        "/v1/messages/render",
        "/v1/responses/render",
        "/v1/completions/derender",
        "/v1/chat/completions/derender",
    ),
    *(
        "/scale_elastic_ep",
        "/is_scaling_elastic_ep",
        "/v1/responses/resp_none/cancel",
        "/v1/systemone",
        "/v1/decisions",
    ),
)
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")


def other_route(random: Random) -> HttpRequest:
    """Return a request to a route that generates nothing, or with a method that none has."""
    return random.choice(_KINDS)(random)


def _information(random: Random) -> HttpRequest:
    return _bare(random, "GET", random.choice(_INFORMATION))


def _any_method(random: Random) -> HttpRequest:
    return _bare(random, random.choice(_METHODS), random.choice(_INFORMATION))


def _wrong_method(random: Random) -> HttpRequest:
    wrong = [method for method in _METHODS if method != "POST"]
    return _bare(random, random.choice(wrong), random.choice(_GENERATION))


def _trailing_slash(random: Random) -> HttpRequest:
    return _bare(random, random.choice(("GET", "POST")), random.choice((*_INFORMATION, *_GENERATION)) + "/")


def _unknown(random: Random) -> HttpRequest:
    return _with_body(random, random.choice(("GET", "POST", "POST")), random.choice(_UNKNOWN))


def _not_enabled(random: Random) -> HttpRequest:
    return _with_body(random, "POST", random.choice(_NOT_ENABLED))


def _bare(random: Random, method: str, path: str) -> HttpRequest:
    return HttpRequest(method, path, odd_headers(random))


def _preflight(random: Random) -> HttpRequest:
    asked = (
        ("origin", "http://example.org"),
        ("access-control-request-method", random.choice(("GET", "POST", "TRACE"))),
        ("access-control-request-headers", random.choice(("content-type", "x-mine, authorization"))),
    )
    return HttpRequest("OPTIONS", random.choice(_GENERATION), asked[: random.randint(1, 3)])


def _with_body(random: Random, method: str, path: str) -> HttpRequest:
    body: dict[str, Any] = random.choice(
        (
            {},
            {"model": "m", "prompt": "hello", "max_tokens": 2},
            {"model": "m", "messages": prompts.conversation(random), "max_tokens": 2},
            {"model": "m", "input": "hello", "max_output_tokens": 2},
            {"lora_name": "a", "lora_path": "/nowhere"},
            {"token_ids": prompts.token_ids(random), "sampling_params": {"max_tokens": 2}},
            {"query": "hello", "items": ["a", "b"], "label_token_ids": [5, 6]},
            {"request_ids": ["r"]},
        )
    )
    return HttpRequest(method, path, headers(random), encoded(random, body))


_KINDS = (
    *(_information,) * 6,
    *(_any_method,) * 3,
    *(_wrong_method,) * 2,
    *(_unknown,) * 4,
    *(_not_enabled,) * 4,
    _trailing_slash,
    _preflight,
)
