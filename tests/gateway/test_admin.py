"""The admin API: what an operator may do, what he is told, and who is no operator."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.behind import before, posted
from tests.gateway.fake_worker import STREAM_HEAD, FakeWorker, chunk, says_and_hangs, until
from tests.gateway.routed import Routed

from understudy.gateway.admin import ADMIN_HOST, ADMIN_LIMITS, admin_application, is_loopback
from understudy.routing import known_policies
from understudy.web import start_server

ORDERS = [
    ("GET", "/workers"),
    ("POST", "/workers"),
    ("POST", "/workers/drain"),
    ("DELETE", "/workers"),
    ("GET", "/policy"),
    ("PUT", "/policy"),
    ("POST", "/explain"),
    ("POST", "/reload"),
]


class Admin:
    """A client of a router's admin API."""

    def __init__(self, router: Routed, port: int, workers: list[FakeWorker]) -> None:
        self.router = router
        self.workers = workers
        self._url = f"http://{ADMIN_HOST}:{port}"

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send an order; a body that is no bytes goes as JSON."""
        data = (
            None
            if body is None
            else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        )
        async with self.router.session.request(
            method, self._url + path, data=data, headers=headers
        ) as answer:
            document: dict[str, Any] = json.loads(await answer.text())
            return answer.status, document

    async def urls(self) -> list[str]:
        """Return the workers that are told of."""
        _, document = await self.ask("GET", "/workers")
        return [worker["url"] for worker in document["workers"]]


@asynccontextmanager
async def administered(num_workers: int, **choices: Any) -> AsyncIterator[Admin]:
    """Put a router with an admin API before workers."""
    async with before(*[{} for _ in range(num_workers)], **choices) as (router, workers):
        running = await start_server(
            admin_application(router.router), host=ADMIN_HOST, port=0, limits=ADMIN_LIMITS
        )
        try:
            yield Admin(router, running.port or 0, list(workers))
        finally:
            await running.drain(0)


def test_workers_come_and_go() -> None:
    """By their addresses; each order is answered with who is there afterwards, and what is known of them."""

    async def scenario() -> None:
        async with administered(2) as admin:
            first, second = sorted(worker.url for worker in admin.workers)
            assert await admin.urls() == [first, second]
            status, document = await admin.ask("DELETE", "/workers", {"url": f"{first}/"})
            assert (status, [worker["url"] for worker in document["workers"]]) == (200, [second])
            status, document = await admin.ask("POST", "/workers", {"url": f"{first}/"})
            assert status == 200
            worker = next(each for each in document["workers"] if each["url"] == first)
            assert worker.keys() == {
                "url", "health", "draining", "slow", "knowledge", "notes", "models", "in_flight", "blocks_known",
                "running", "waiting", "kv_usage",
            }  # fmt: skip
            status, document = await admin.ask("POST", "/workers", {"url": first})
            assert status == 400
            assert "already" in document["error"]
            await admin.ask("POST", "/workers/drain", {"url": first})
            assert await admin.urls() == [second]

    asyncio.run(scenario())


def test_a_worker_that_drains_leaves_when_it_is_done() -> None:
    """It gets nothing more, and its answer goes on; removed, its answers break."""

    async def scenario() -> None:
        async with administered(1) as admin:
            (worker,) = admin.workers
            worker.answer = says_and_hangs(STREAM_HEAD, chunk(b"data: 1\n\n"))
            session, url = admin.router.session, f"{admin.router.url}/v1/completions"
            for order, path in (("POST", "/workers/drain"), ("DELETE", "/workers")):
                async with session.post(url, json={"prompt": "x"}) as answer:
                    assert await answer.content.readany() == b"data: 1\n\n"
                    _, document = await admin.ask("POST", "/workers/drain", {"url": worker.url})
                    assert [each["draining"] for each in document["workers"]] == [True]
                    assert (await admin.router.post("/v1/completions", {"prompt": "x"})).status == 503
                    if order == "DELETE":
                        _, document = await admin.ask(order, path, {"url": worker.url})
                        assert document["workers"] == []
                        assert b"error" in await answer.content.readany()
                await until(lambda: not list(admin.router.router.fleet))
                await admin.ask("POST", "/workers", {"url": worker.url})
                worker.answer, kept = _well, worker.answer
                await until(lambda: admin.router.router.fleet.is_ready)
                worker.answer = kept

    asyncio.run(scenario())


async def _well(_asked: object, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_the_policy_changes_at_once() -> None:
    """To any of the built-in ones, which an unknown name is answered with."""

    async def scenario() -> None:
        async with administered(2) as admin:
            for name in known_policies():
                assert await admin.ask("PUT", "/policy", {"policy": name}) == (200, {"policy": name})
                assert await admin.ask("GET", "/policy") == (200, {"policy": name})
            await admin.ask("PUT", "/policy", {"policy": "round-robin"})
            for _ in range(6):
                await admin.router.post("/v1/completions", {"prompt": "x"})
            assert [len(posted(worker)) for worker in admin.workers] == [3, 3]
            status, document = await admin.ask("PUT", "/policy", {"policy": "zzz"})
            assert status == 400
            assert all(name in document["error"] for name in known_policies())
            assert (await admin.ask("GET", "/policy"))[1] == {"policy": "round-robin"}

    asyncio.run(scenario())


def test_no_file_is_run_by_name(tmp_path: Path) -> None:
    """But the one that the command line named: whoever may reach the port may be another user of the machine."""
    own, other = tmp_path / "own.py", tmp_path / "other.py"
    own.write_text("def choose(request, fleet, memory):\n    return 0\n")
    other.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + own.read_text())

    async def scenario() -> None:
        async with administered(1, policy=f"{own}:choose") as admin:
            status, document = await admin.ask("PUT", "/policy", {"policy": f"{other}:choose"})
            assert status == 400
            assert "only --policy" in document["error"]
            assert (await admin.ask("PUT", "/policy", {"policy": "prefix"}))[0] == 200
            assert (await admin.ask("PUT", "/policy", {"policy": f"{own}:choose"}))[0] == 200

    asyncio.run(scenario())
    assert not (tmp_path / "ran").exists()


def test_a_decision_is_explained() -> None:
    """For a completion and for a chat; each policy names a worker, and asking changes nothing."""

    async def scenario() -> None:
        async with administered(2) as admin:
            messages = [{"role": "user", "content": "hello " * 50}]
            for question in (
                {"body": {"prompt": "hello " * 50}},
                {"body": {"messages": messages}, "path": "/v1/chat/completions"},
            ):
                status, document = await admin.ask("POST", "/explain", question)
                assert status == 200
                assert document["prompt_tokens"] > 0
                assert {each["policy"] for each in document["policies"]} == set(known_policies())
                assert {each["worker"] for each in document["policies"]} <= {
                    worker.url for worker in admin.workers
                }
                assert await admin.ask("POST", "/explain", question) == (status, document)
            assert not any(posted(worker) for worker in admin.workers)
            for wrong in ({"body": {"prompt": 1}}, {"body": {}, "path": "/v1/models"}):
                assert (await admin.ask("POST", "/explain", wrong))[0] == 400

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path"), [each for each in ORDERS if each[0] != "GET" and each[1] != "/reload"]
)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"url": 1}', b'{"x": 1}', b"\xff", b"[" * 5000])
def test_wrong_bodies_are_told(method: str, path: str, body: bytes) -> None:
    """With 400 and what is accepted, and nothing changes."""

    async def scenario() -> None:
        async with administered(1) as admin:
            before_it = await admin.urls()
            status, document = await admin.ask(method, path, body)
            assert status == 400
            assert isinstance(document["error"], str)
            assert "Traceback" not in document["error"]
            assert await admin.urls() == before_it

    asyncio.run(scenario())


def test_wrong_orders_are_told() -> None:
    """Unknown workers with those that are known, what is no address, other paths, other methods, bodies without end."""

    async def scenario() -> None:
        async with administered(1) as admin:
            (worker,) = admin.workers
            for method, path in (("DELETE", "/workers"), ("POST", "/workers/drain")):
                status, document = await admin.ask(method, path, {"url": "http://127.0.0.1:1"})
                assert status == 404
                assert worker.url in document["error"]
                assert (await admin.ask(method, path, {"url": "nowhere"}))[0] == 400
            assert (await admin.ask("POST", "/workers", {"url": "ftp://x"}))[0] == 400
            assert (await admin.ask("GET", "/nothing"))[0] == 404
            assert (await admin.ask("PATCH", "/policy", {}))[0] == 405
            assert (await admin.ask("POST", "/explain", bytes(ADMIN_LIMITS.body_bytes + 1)))[0] == 413

    asyncio.run(scenario())


def test_browsers_cannot_drive_it() -> None:
    """Neither by a name that was rebound to this machine, nor from a page of another site."""

    async def scenario() -> None:
        async with administered(1) as admin:
            for method, path in ORDERS:
                for headers in (
                    {"Host": "attacker.example"},
                    {"Host": "127.0.0.1.attacker.example"},
                    {"Host": "10.0.0.1"},
                    {"Origin": "https://attacker.example"},
                    {"Origin": "null"},
                    {"Origin": "http://[x"},
                ):
                    status, document = await admin.ask(method, path, None, **headers)
                    assert (status, list(document)) == (403, ["error"]), (method, path, headers)
            assert (
                await admin.ask("GET", "/workers", None, Host="localhost:1", Origin="http://127.0.0.1:3")
            )[0] == 200

    asyncio.run(scenario())


@given(st.text())
def test_only_names_of_this_machine_are_its(text: str) -> None:
    """No text but localhost and loopback addresses, with a port or none."""
    if is_loopback(text):
        assert text.lower().startswith(("localhost", "127.", "[::1", "[::ffff:127.", "[0")) or "@" in text


@pytest.mark.parametrize(
    "authority", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8080"]
)
def test_names_of_this_machine(authority: str) -> None:
    """With a port and without."""
    assert is_loopback(authority)


def test_it_is_not_on_the_clients_port() -> None:
    """Its paths go to workers there, as all others."""

    async def scenario() -> None:
        async with administered(1) as admin:
            (worker,) = admin.workers
            for path in ("/workers", "/policy"):
                async with admin.router.session.get(admin.router.url + path) as answer:
                    assert await answer.json() == {}
            assert {asked.target for asked in worker.asked} >= {"/workers", "/policy"}
            assert isinstance(admin.router.session, aiohttp.ClientSession)

    asyncio.run(scenario())
