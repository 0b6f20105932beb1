"""What clients reach: who is let in, what the router answers itself, what goes to one worker and what to all."""

import asyncio
import io
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.behind import answers, before, lists, posted
from tests.gateway.fake_worker import FakeWorker, until
from tests.gateway.routed import Routed, route_to, routed
from tests.server.serving import MODEL

from understudy.gateway.access_log import AccessLog
from understudy.gateway.broadcast import BROADCAST_PATHS

CANARY = "xylophone-zanzibar"
KEY = f"{CANARY}-key"
GOOD = {"Authorization": f"Bearer {KEY}"}
TLS = Path(__file__).parents[1] / "data" / "tls"
OPEN = {"/health", "/ping", "/version", "/metrics", "/metrics/", "/load"}


async def raw(router: Routed, method: str, target: str, *lines: str, host: str = "h") -> tuple[int, bytes]:
    """Send a request as these bytes, and return the status and the rest of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.running.port)
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""]
    writer.write("\r\n".join(head).encode("latin-1"))
    data = await reader.read()
    writer.close()
    status, _, rest = data.partition(b"\r\n")
    return int(status.split()[1]), rest


TARGETS = sorted(
    {
        *OPEN,
        *BROADCAST_PATHS,
        "/",
        "/v1/models",
        "/v1/completions",
        "/invocations",
        "/docs",
        "/server_info",
        "/%68ealth",
        "/health/",
        "//health",
        "/health%2f..%2fv1/models",
        "/health/../v1/models",
        "/v1/models/../../health",
        "/version?/../v1/models",
        "/metrics;/v1/models",
        "/v1/%6dodels",
    }
)


@pytest.mark.parametrize(
    "host", ["h", "health", "a/health?", "h#@x", "", "[::1]:80", "h:80:80", "h/../health"]
)
def test_nobody_gets_in_without_a_key(host: str) -> None:
    """But to what is open, by its exact spelling, for reading; whatever the Host header and the path pretend."""

    async def scenario() -> None:
        async with before({}, api_key=(KEY,), worker_api_key="theirs") as (router, (worker,)):
            for target in TARGETS:
                is_open = target.partition("?")[0] in OPEN
                for method in ("GET", "POST", "DELETE", "OPTIONS", "PROPFIND"):
                    num_asked = len([asked for asked in worker.asked if asked.values("X-Test")])
                    for lines in ((), ("Authorization: Bearer wrong",), (f"Authorization: Basic {KEY}",)):
                        status, _ = await raw(router, method, target, "X-Test: 1", *lines, host=host)
                        assert (status != 401) == (is_open and method == "GET") or status == 400, (
                            method,
                            target,
                        )
                    reached = [asked for asked in worker.asked if asked.values("X-Test")]
                    assert len(reached) == num_asked or (is_open and method == "GET"), (method, target)
                status, _ = await raw(router, "GET", target, f"Authorization: Bearer {KEY}", host=host)
                assert status != 401, target

    asyncio.run(scenario())


@given(st.lists(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20).map("/".__add__)))
@settings(max_examples=10, deadline=None)
def test_no_spelling_is_open_that_is_not_listed(targets: list[str]) -> None:
    """The key is asked for on the bytes of the target, whatever they decode to."""

    async def scenario() -> None:
        async with before({}, api_key=(KEY,)) as (router, _):
            for target in targets:
                status, _rest = await raw(router, "GET", target)
                assert status in {400, 401} or target.partition("?")[0] in OPEN

    asyncio.run(scenario())


def test_a_key_stays_at_the_router() -> None:
    """Workers never see it, by whatever way a request goes; `--worker-api-key` is what they get."""

    async def scenario(worker_key: str | None) -> None:
        async with before(lists("a"), lists("b"), api_key=(KEY,), worker_api_key=worker_key) as (
            router,
            workers,
        ):
            for path in ("/v1/models", "/version", "/docs"):
                assert (await router.get(path, GOOD)).status == 200
            for path in ("/v1/completions", "/abort_requests", "/anything"):
                body = {"model": "a", "prompt": "x"}
                assert (await router.post(path, body, GOOD | {"Proxy-Authorization": KEY})).status == 200
            asked = [each for worker in workers for each in worker.asked]
            assert {each.target for each in asked} >= {
                "/v1/models",
                "/abort_requests",
                "/anything",
                "/health",
            }
            for each in asked:
                assert KEY not in str(each)
                assert each.values("Authorization") == (
                    [] if worker_key is None else [f"Bearer {worker_key}"]
                )

    asyncio.run(scenario(None))
    asyncio.run(scenario("theirs"))


def test_without_keys_the_clients_own_goes_on() -> None:
    """Who may come is then the workers' business."""

    async def scenario() -> None:
        async with before(lists("a"), lists("b")) as (router, workers):
            await router.post("/v1/completions", {"model": "a", "prompt": "x"}, GOOD)
            await router.get("/v1/models", GOOD)
            await router.post("/sleep", b"", GOOD)
            targets = {
                each.target
                for worker in workers
                for each in worker.asked
                if each.values("Authorization") == [f"Bearer {KEY}"]
            }
            assert targets == {"/v1/completions", "/v1/models", "/sleep"}

    asyncio.run(scenario())


def test_a_preflight_needs_no_key_where_the_router_answers_it() -> None:
    """With `--allowed-origins` a page may ask; what is no preflight needs a key even then."""

    async def scenario() -> None:
        preflight = ("Origin: https://a", "Access-Control-Request-Method: POST")
        async with before({}, api_key=(KEY,), allowed_origins=("https://a",)) as (router, (worker,)):
            status, rest = await raw(router, "OPTIONS", "/v1/completions", *preflight)
            assert status == 200
            assert b"Access-Control-Allow-Origin: https://a\r\n" in rest
            assert (await raw(router, "OPTIONS", "/v1/completions", "Origin: https://a"))[0] == 401
            allowed = await router.post("/v1/completions", {"prompt": "x"}, GOOD | {"Origin": "https://a"})
            assert allowed.headers["Access-Control-Allow-Origin"] == "https://a"
            other = await router.post("/v1/completions", {"prompt": "x"}, GOOD | {"Origin": "https://b"})
            assert "Access-Control-Allow-Origin" not in other.headers
            assert all(each.method != "OPTIONS" for each in worker.asked)
        async with before({}, api_key=(KEY,)) as (router, _):
            assert (await raw(router, "OPTIONS", "/v1/completions", *preflight))[0] == 401

    asyncio.run(scenario())


def test_secrets_are_told_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither keys nor prompts stand in the log, the access log, the metrics, the admin API's answers or an error."""
    caplog.set_level("DEBUG")

    async def scenario() -> str:
        stream = io.BytesIO()
        told: list[str] = []
        async with routed(2, api_key=(KEY,), access_log=True, tenant_salt="key", admin_port=0) as router:
            router.router._log = AccessLog(stream)
            prompt = f"{CANARY} tell me more " * 20
            for headers in (GOOD, {"Authorization": f"Bearer {CANARY}-wrong"}, {}):
                for body in (
                    {"prompt": prompt, "cache_salt": CANARY},
                    {"prompt": {CANARY: 1}},
                    {"messages": CANARY},
                ):
                    for path in ("/v1/completions", "/v1/chat/completions", "/abort_requests"):
                        reply = await router.post(
                            f"{path}?key={CANARY}", {"model": MODEL, "max_tokens": 1} | body, headers
                        )
                        if reply.status in {401, 404, 405, 502, 503}:
                            told.append(reply.text)
            told += [(await router.post("/v1/completions", f"[{CANARY}".encode(), GOOD)).text]
            told += [(await router.get("/metrics")).text, json.dumps(router.router.worker_documents())]
        return "".join(told) + stream.getvalue().decode()

    text = asyncio.run(scenario()) + caplog.text
    assert '"status":401' in text
    assert CANARY not in text


def test_a_body_that_is_too_long_is_refused() -> None:
    """With 413 in vLLM's shape, told to the metrics, and no worker hears of it."""

    async def scenario() -> None:
        async with before({}, max_body_bytes=1000) as (router, (worker,)):
            assert (await router.post("/v1/completions", b"x" * 1000)).status == 200
            reply = await router.post("/v1/completions", b"x" * 1001)
            assert reply.status == 413
            assert reply.json["error"]["code"] == 413
            assert len(posted(worker)) == 1
            assert 'requests_total{method="POST",status="413"} 1.0' in (await router.get("/metrics")).text

    asyncio.run(scenario())


def test_requests_have_limits() -> None:
    """Of headers, in number and in bytes; and what is no HTTP is refused. No worker hears of it."""

    async def scenario() -> None:
        async with before({}) as (router, (worker,)):
            assert (await raw(router, "POST", "/v1/x", *(f"X-{number}: 1" for number in range(120))))[
                0
            ] == 431
            assert (await raw(router, "POST", "/v1/x", f"X-Long: {'x' * 70_000}"))[0] == 431
            assert (await raw(router, "POST", "/v1/x", "Content-Length: 1", "Transfer-Encoding: chunked"))[
                0
            ] == 400
            assert (await raw(router, "POST", "http://127.0.0.1:1/v1/x"))[0] == 404
            assert not posted(worker)

    asyncio.run(scenario())


def test_models_of_a_mixed_fleet_are_listed_together() -> None:
    """Each once; a request for a model goes to who serves it, one for an unknown model to anybody, whose 404 passes."""

    async def scenario() -> None:
        unknown = {"/v1/completions": (404, {"error": {"message": "no such model", "code": 404}})}
        async with before(lists("a", "both"), {**lists("b", "both"), **unknown}) as (router, workers):
            listed = (await router.get("/v1/models")).json
            assert listed["object"] == "list"
            assert sorted(model["id"] for model in listed["data"]) == ["a", "b", "both"]
            for _ in range(5):
                assert (await router.post("/v1/completions", {"model": "a", "prompt": "x"})).status == 200
                assert (await router.post("/v1/completions", {"model": "b", "prompt": "x"})).status == 404
            assert [len(posted(worker)) for worker in workers] == [5, 5]
            statuses = {
                (await router.post("/v1/completions", {"model": "no", "prompt": str(turn)})).status
                for turn in range(8)
            }
            assert statuses == {200, 404}

    asyncio.run(scenario())


def test_models_of_equal_workers_are_one_workers_answer() -> None:
    """Byte for byte, with the headers that name it."""

    async def scenario() -> None:
        async with before(lists("a"), lists("a")) as (router, _):
            reply = await router.get("/v1/models")
            assert reply.json == lists("a")["/v1/models"][1]
            assert "X-Understudy-Worker" in reply.headers

    asyncio.run(scenario())


def test_a_long_list_of_models_comes_whole() -> None:
    """However many pieces it comes in; a worker whose list is refused is left out, and if all refuse, clients get that."""

    async def scenario() -> None:
        many = [f"adapter-{number:0300d}" for number in range(1000)]
        async with before(lists(*many), lists("b")) as (router, _):
            assert len((await router.get("/v1/models")).json["data"]) == 1001
        async with before(lists("a"), lists("b")) as (router, workers):
            workers[0].answer = answers({"/v1/models": (401, {"error": "Unauthorized"})})
            assert [model["id"] for model in (await router.get("/v1/models")).json["data"]] == ["b"]
            workers[1].answer = workers[0].answer
            reply = await router.get("/v1/models")
            assert (reply.status, reply.json) == (401, {"error": "Unauthorized"})

    asyncio.run(scenario())


@pytest.mark.parametrize("path", sorted(BROADCAST_PATHS))
def test_an_order_reaches_every_worker(path: str) -> None:
    """With its query and its body, once each; the first refusal is the answer, else the first answer."""

    async def scenario() -> None:
        async with before({}, {path: (409, {"no": "room"})}, {}) as (router, workers):
            reply = await router.post(
                f"{path}?level=%22", b'{"a": 1}', {"Connection": "x-hop", "X-Hop": "1", "X-On": "2"}
            )
            assert (reply.status, reply.json) == (409, {"no": "room"})
            for worker in workers:
                (asked,) = posted(worker)
                assert (asked.target, asked.body) == (f"{path}?level=%22", b'{"a": 1}')
                assert (asked.values("X-Hop"), asked.values("X-On")) == ([], ["2"])
                worker.answer = answers({})
            assert (await router.post(path, b"")).status == 200

    asyncio.run(scenario())


def test_an_order_that_a_worker_does_not_hear_fails() -> None:
    """With 502 and its name, for the fleet is no longer of one mind."""

    async def scenario() -> None:
        async with before({}, {}) as (router, workers):
            gone = "http://127.0.0.1:1"
            router.router.add_worker(gone)
            reply = await router.post("/reset_prefix_cache", b"")
            assert reply.status == 502
            assert gone in reply.json["error"]["message"]
            assert all(posted(worker) for worker in workers)

    asyncio.run(scenario())


def test_without_workers_it_says_so() -> None:
    """503 everywhere but for what it can answer itself; it is not healthy."""

    async def scenario() -> None:
        async with route_to([], admin_port=0) as router:
            assert (await router.get("/health")).status == 503
            assert (await router.get("/metrics")).status == 200
            assert (await router.complete(prompt="x")).status == 503
            assert (await router.post("/sleep", b"")).status == 503
            assert (await router.get("/v1/models")).status == 503

    asyncio.run(scenario())


def test_it_speaks_tls_both_ways() -> None:
    """To clients with its certificate, to workers at https addresses if `--worker-ca` vouches for theirs."""

    async def scenario() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
        worker = FakeWorker(answers({}))
        loop = asyncio.get_running_loop()
        async with await loop.create_server(worker.protocol, "127.0.0.1", 0, ssl=context) as server:
            worker.port = server.sockets[0].getsockname()[1]
            url = f"https://127.0.0.1:{worker.port}"
            choices: dict[str, Any] = {"worker": (url,), "heartbeat_seconds": 0.02, "knowledge": "own"}
            certificate = {"ssl_certfile": TLS / "certificate.pem", "ssl_keyfile": TLS / "key.pem"}
            trust = ssl.create_default_context(cafile=TLS / "certificate.pem")
            async with route_to([], worker_ca=TLS / "certificate.pem", **certificate, **choices) as router:
                await router.ready(1)
                address = f"https://127.0.0.1:{router.running.port}"
                for path in ("/health", "/version", "/v1/models"):
                    async with router.session.get(address + path, ssl=trust) as answer:
                        assert answer.status == 200
                async with router.session.post(f"{address}/sleep", ssl=trust) as answer:
                    assert answer.status == 200
            await until(lambda: len(worker.left) == worker.num_connections)
            num_asked = len(worker.asked)
            async with route_to([], **choices) as router:
                await asyncio.sleep(0.1)
                assert (await router.get("/version")).status == 503
            assert len(worker.asked) == num_asked

    asyncio.run(scenario())
