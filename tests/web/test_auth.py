"""Who gets past API keys: nobody without one, however a path is spelled."""

import asyncio
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.web.raw_client import Answer, Application, ask, port_of, serving

from understudy.web import ApiKeys, HttpLimits, auth_middleware
from understudy.web.auth import OPEN_PATHS, VLLM_GUARDED_PREFIXES

KEYS = ["first key", "second-key", "dritter Schlüssel"]

HOSTILE_TARGETS = [
    "/v1/models",
    "/v1/models/",
    "/v1/models//",
    "/v1/models?",
    "/v1/models?/health",
    "/v1/models#",
    "/v1/models#/health",
    "/v1/models;/health",
    "/v1//models",
    "//v1/models",
    "///v1/models",
    "/./v1/models",
    "/v1/./models",
    "/../v1/models",
    "/health/../v1/models",
    "/health/..;/v1/models",
    "/health/%2e%2e/v1/models",
    "/health/%2E%2E%2Fv1/models",
    "/health%2f..%2fv1/models",
    "/health?/../v1/models",
    "/health/",
    "/health//v1/models",
    "/health%00/v1/models",
    "/health%",
    "/health%20",
    "/health\\..\\v1\\models",
    "/healthz",
    "/Health",
    "/HEALTH",
    "/%68ealth",
    "/%76%31/models",
    "/%761/models",
    "/v%31/models",
    "/v1%2fmodels",
    "/v1%2Fmodels",
    "/v1%252fmodels",
    "/%2576%2531/models",
    "/v1/%6dodels",
    "/v1/models%2f",
    "/v1/models%23",
    "/v1/models%3f",
    "/v1\\models",
    "/V1/models",
    "/v1/MODELS",
    "/v1/models%c0%af",
    "/v1/models\xe9",
    "/%ef%bc%8fv1/models",
    "http://test/v1/models",
    "HTTP://TEST/v1/models",
    "http://test/health/../v1/models",
    "http://health/v1/models",
    "http:///v1/models",
    "//test/v1/models",
    "*",
    "/",
]

AUTHORIZATIONS = {
    "no key": None,
    "an empty value": "",
    "only the scheme": "Bearer",
    "an empty key": "Bearer ",
    "a bad key": "Bearer nonsense",
    "a key and more": "Bearer second-keys",
    "a beginning of a key": "Bearer second-ke",
    "two spaces": "Bearer  second-key",
    "another scheme": "Basic second-key",
    "no scheme": "second-key",
    "two keys": "Bearer first key second-key",
    "another case": "Bearer SECOND-KEY",
}


async def _ask(
    target: str, authorization: str | None, compat: str, method: str = "GET"
) -> tuple[Answer, list[str]]:
    application = Application(HttpLimits())
    keys = ApiKeys(KEYS, "vllm" if compat == "vllm" else "strict")
    application.app.middlewares.append(auth_middleware(keys))
    async with serving(application=application) as (server, _):
        headers = [] if authorization is None else [f"Authorization: {authorization}"]
        return await ask(port_of(server), target, method, headers), application.handled


@pytest.mark.parametrize("compat", ["strict", "vllm"])
@pytest.mark.parametrize("authorization", ["no key", "a bad key", "two spaces"])
@pytest.mark.parametrize("target", HOSTILE_TARGETS)
def test_no_spelling_of_a_path_gets_past_the_keys(target: str, authorization: str, compat: str) -> None:
    """No guarded handler runs; the strict rule lets through nothing but the open paths, to the letter."""
    answer, handled = asyncio.run(_ask(target, AUTHORIZATIONS[authorization], compat))
    assert not [path for path in handled if path.startswith(VLLM_GUARDED_PREFIXES)]
    if compat == "strict":
        is_open = target.partition("?")[0] in OPEN_PATHS
        assert answer.status in ({200} if is_open else {400, 401, 404})
        assert handled == (["/health"] if is_open else [])


@pytest.mark.parametrize("compat", ["strict", "vllm"])
@pytest.mark.parametrize("target", HOSTILE_TARGETS)
def test_a_good_key_changes_no_path(target: str, compat: str) -> None:
    """With it a spelling is what it is without keys at all: a route, or none."""

    async def without_keys() -> Answer:
        async with serving() as (server, _):
            return await ask(port_of(server), target)

    answer, _ = asyncio.run(_ask(target, "Bearer second-key", compat))
    expected = asyncio.run(without_keys())
    assert (answer.status, answer.body) == (expected.status, expected.body)
    assert answer.status != 401


@pytest.mark.parametrize("authorization", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS.keys())
def test_only_a_whole_key_counts(authorization: str | None) -> None:
    """Behind the word Bearer and one space; everything else is answered as vLLM does."""
    answer, handled = asyncio.run(_ask("/v1/models", authorization, "strict"))
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == b'{"error":"Unauthorized"}'
    assert handled == []


@pytest.mark.parametrize("compat", ["strict", "vllm"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("key", KEYS)
def test_every_key_opens(key: str, scheme: str, compat: str) -> None:
    """Whatever the case of the scheme; a key may hold spaces and letters of any language."""
    as_sent = key.encode().decode("latin-1")
    answer, handled = asyncio.run(_ask("/v1/models", f"{scheme} {as_sent}", compat))
    assert answer.status == 200
    assert handled == ["/v1/models"]


@pytest.mark.parametrize(
    "path", ["/v1", "/v1x", "/v2/a", "/inference/v1", "/cohere", "/%76%32", "/v1/models?a"]
)
def test_vllms_rule_guards_its_prefixes(path: str) -> None:
    """As vLLM sees them: decoded once."""
    keys = ApiKeys(KEYS, "vllm")
    assert not keys.allow("GET", path, None)
    assert keys.allow("OPTIONS", path, None)
    assert keys.allow("GET", path, "Bearer second-key")


@pytest.mark.parametrize(
    "path", ["/tokenize", "/invocations", "/docs", "/", "/x/v1", "//v1", "/V1", "/%2576%2531"]
)
def test_vllms_rule_guards_nothing_else(path: str) -> None:
    """The strict rule does."""
    assert ApiKeys(KEYS, "vllm").allow("GET", path, None)
    assert not ApiKeys(KEYS).allow("GET", path, None)


@given(path=st.text(string.printable + "é", max_size=20), key=st.text(max_size=20))
def test_the_strict_rule_is_deny_by_default(path: str, key: str) -> None:
    """Whatever is not an open path needs one of the keys; without keys nothing does."""
    keys = ApiKeys(KEYS)
    is_open = path.partition("?")[0] in OPEN_PATHS
    assert keys.allow("POST", path, f"Bearer {key}") == (is_open or key in KEYS)
    assert ApiKeys([]).allow("POST", path, None)
