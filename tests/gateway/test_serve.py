"""What changes while a router runs: its settings, and the file of its workers."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.behind import before, posted
from tests.gateway.fake_worker import STREAM_HEAD, chunk, says_and_hangs, until
from tests.gateway.routed import Routed, route_to, routed

from understudy.cli.route import policy_named
from understudy.errors import InputError, UnderstudyError, UsageError
from understudy.gateway import serve
from understudy.gateway.router import Sources
from understudy.gateway.settings import RouteSettings
from understudy.gateway.workers_file import addresses_in
from understudy.regular_file import MAX_YAML_BYTES

GONE = "http://127.0.0.1:1"
TLS = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LOOK_SECONDS", 0.01)


def reload(router: Routed, **changes: Any) -> list[str]:
    """Let the router read settings that have changed."""
    settings = replace(router.router.settings, **changes)
    router.router._sources = Sources(policy=policy_named, settings=lambda: settings)
    return router.router.reload()


def names(router: Routed) -> list[str]:
    """Return the workers of a router that do not drain."""
    return [member.name for member in router.router.fleet if not member.is_draining]


def write(file: Path, *lines: str) -> None:
    """Replace a file at once, as a careful operator does."""
    other = file.with_suffix(".new")
    other.write_text("".join(f"{line}\n" for line in lines or ["# nobody"]))
    other.replace(file)


def test_settings_change_while_it_runs() -> None:
    """Policy, limits, retries, headers, keys; the rest is named and stays as it is."""

    async def scenario() -> None:
        async with before({}, {}) as (router, workers):
            left = reload(
                router,
                policy="round-robin",
                retries=0,
                retry_unanswered=True,
                idle_seconds=5.0,
                max_in_flight_per_worker=3,
                queue_size=2,
                queue_seconds=0.5,
                worker_headers=False,
                block_size=32,
                api_key=("k",),
                port=1,
            )
            assert left == ["--block-size", "--port"]
            inner = router.router
            assert (inner.settings.block_size, inner.fleet.policy.name) == (16, "round-robin")
            assert (inner.forwarder.settings.retries, inner.forwarder.settings.idle_seconds) == (0, 5.0)
            assert inner.forwarder.settings.retry_unanswered
            assert inner.fleet.limits.max_in_flight_per_worker == 3
            assert (inner.admission.max_waiting, inner.admission.max_seconds) == (2, 0.5)
            assert (await router.complete(prompt="x")).status == 401
            for _ in range(4):
                reply = await router.complete({"Authorization": "Bearer k"}, prompt="x")
                assert reply.status == 200
                assert "X-Understudy-Worker" not in reply.headers
            assert [len(posted(worker)) for worker in workers] == [2, 2]
            assert not any(asked.values("Authorization") for asked in posted(workers[0]))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "no"},
        {"worker": ("nowhere",)},
        {"workers_file": Path("/nowhere")},
        {"policy": "no.py:choose"},
    ],
)
def test_settings_that_cannot_be_used_change_nothing(changes: dict[str, Any]) -> None:
    """Nor do those that came with them."""

    async def scenario() -> None:
        async with before({}) as (router, _):
            settings, there = router.router.settings, names(router)
            with pytest.raises(UnderstudyError):
                reload(router, retries=0, api_key=("k",), **changes)
            assert router.router.settings == settings
            assert names(router) == there
            assert router.router.forwarder.settings.retries == settings.retries
            assert (await router.complete(prompt="x")).status == 200

    asyncio.run(scenario())


def test_workers_change_with_the_settings() -> None:
    """Those that are new join, those that are gone leave."""

    async def scenario() -> None:
        async with before({}, {}) as (router, workers):
            first, second = (worker.url for worker in workers)
            assert reload(router, worker=(second, GONE)) == []
            assert names(router) == sorted((second, GONE))
            reload(router, worker=(first,))
            await until(lambda: names(router) == [first])

    asyncio.run(scenario())


def test_no_request_fails_while_the_file_changes(tmp_path: Path) -> None:
    """Workers join and drain, again and again; whoever is asked meanwhile answers."""
    file = tmp_path / "workers"

    async def scenario() -> None:
        async with routed(3) as several:
            urls = [worker.url for worker in several.workers]
            write(file, urls[0])
            async with route_to([], workers_file=file, heartbeat_seconds=0.02, knowledge="own") as router:
                await router.ready(1)
                statuses: list[int] = []
                done = asyncio.Event()

                async def client() -> None:
                    while not done.is_set():
                        statuses.append((await router.complete(prompt="hello", max_tokens=3)).status)

                async with asyncio.TaskGroup() as tasks:
                    for _ in range(4):
                        tasks.create_task(client())
                    for there in (urls, urls[1:], [urls[2]], urls[:2], [urls[0]]):
                        write(file, "# all of them", *(f"{url}/  # one" for url in there), "")
                        async with asyncio.timeout(10):
                            while {member.name for member in router.router.fleet} != set(there):  # noqa: ASYNC110 - no event tells
                                await asyncio.sleep(0.01)
                    done.set()
                assert len(statuses) > 10
                assert set(statuses) == {200}

    asyncio.run(scenario())


def test_a_broken_line_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its number; the workers stay as they are until it is mended."""
    file = tmp_path / "workers"

    async def scenario() -> None:
        async with following(file, GONE) as router:
            write(file, GONE, "nowhere at all", "http://127.0.0.1:2")
            await until(lambda: bool(caplog.messages))
            await asyncio.sleep(0.1)
            assert names(router) == [GONE]
            file.unlink()
            await until(lambda: len(caplog.messages) == 2)
            write(file, "http://127.0.0.1:2")
            await until(lambda: names(router) == ["http://127.0.0.1:2"])

    caplog.set_level(logging.ERROR)
    asyncio.run(scenario())
    first, second = caplog.messages
    assert f"--workers-file {file}, line 2: worker 'nowhere at all': expected a URL" in first
    assert "No such file or directory" in second


@asynccontextmanager
async def following(file: Path, *lines: str) -> AsyncIterator[Routed]:
    """Let a router follow a file."""
    write(file, *lines)
    async with route_to([], workers_file=file) as router:
        yield router


def test_an_operators_order_outlives_the_file(tmp_path: Path) -> None:
    """Who was removed stays away until the file has named others; who drains and is named again stays."""
    file = tmp_path / "workers"

    async def scenario() -> None:
        async with before({}) as (other, (worker,)), following(file, worker.url) as router:
            fleet = router.router.fleet
            fleet.remove(fleet[worker.url])
            await asyncio.sleep(0.05)
            assert names(router) == []
            write(file)
            await asyncio.sleep(0.05)
            write(file, worker.url)
            await until(lambda: names(router) == [worker.url] and fleet.is_ready)
            worker.answer = says_and_hangs(STREAM_HEAD, chunk(b"data: 1\n\n"))
            async with other.session.post(f"{router.url}/v1/completions", json={"prompt": "x"}) as answer:
                await answer.content.readany()
                write(file)
                await until(lambda: names(router) == [])
                write(file, worker.url)
                await until(lambda: names(router) == [worker.url])
            await asyncio.sleep(0.05)
            assert names(router) == [worker.url]

    asyncio.run(scenario())


def test_a_reload_may_name_the_file(tmp_path: Path) -> None:
    """Or another one; from then on it is that one which is followed."""
    first, second = tmp_path / "first", tmp_path / "second"

    async def scenario() -> None:
        write(first, GONE)
        async with route_to([]) as router:
            reload(router, workers_file=first)
            assert names(router) == [GONE]
            write(first, "http://127.0.0.1:2")
            await until(lambda: names(router) == ["http://127.0.0.1:2"])
            write(second, "http://127.0.0.1:3")
            reload(router, workers_file=second)
            write(second, "http://127.0.0.1:4")
            await until(lambda: names(router) == ["http://127.0.0.1:4"])
            assert reload(router, workers_file=None) == []
            assert names(router) == []

    asyncio.run(scenario())


def test_only_small_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe, a device, a folder, a giant or a file of other bytes is refused at once."""
    pipe, giant, other = tmp_path / "pipe", tmp_path / "giant", tmp_path / "other"
    os.mkfifo(pipe)
    with giant.open("wb") as file:
        file.truncate(MAX_YAML_BYTES + 1)
    other.write_bytes(b"http://127.0.0.1:1\n\xff\n")
    for path in (pipe, Path("/dev/zero"), tmp_path, giant, other, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"--workers-file.*{path}"):
            addresses_in(path)
    other.write_text("# none\n\n http://a:1/ # one\nhttps://b\n")
    assert addresses_in(other) == ("http://a:1", "https://b")


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("nowhere.pem", "key.pem"),
        ("certificate.pem", "nowhere.pem"),
        ("certificate.pem", "other-key.pem"),
        ("certificate.pem", "locked-key.pem"),
        ("README.md", "key.pem"),
        (".", "key.pem"),
    ],
)
def test_certificates_that_cannot_be_used_are_told(certificate: str, key: str) -> None:
    """In one sentence that names the flag."""
    with pytest.raises(InputError, match=r"^--ssl-[^\n]*$"):
        _start(ssl_certfile=TLS / certificate, ssl_keyfile=TLS / key)


def _start(**choices: Any) -> None:
    async def scenario() -> None:
        settings = RouteSettings(**{"port": 0} | choices)
        async with serve.routing(settings, Sources(policy=policy_named, settings=lambda: settings)):
            pass

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "choices",
    [
        {"worker_ca": TLS / "nowhere.pem"},
        {"worker_ca": TLS / "README.md"},
        {"worker": ("nowhere",)},
        {"workers_file": TLS / "nowhere"},
        {"policy": "none"},
        {"tokenizer": "/nowhere"},
        {"port": 99_999},
        {"admin_port": 99_999},
    ],
)
def test_what_cannot_be_used_ends_the_start(choices: dict[str, Any]) -> None:
    """With an error that a person can mend, and nothing is left behind."""
    with pytest.raises((UsageError, InputError), match=r"^[^\n]*$"):
        _start(**choices)


def test_a_certificate_of_a_worker_is_read_from_its_file() -> None:
    """Nothing else is needed."""
    _start(worker_ca=TLS / "certificate.pem")


def test_a_file_that_is_being_saved_empties_no_fleet(tmp_path: Path) -> None:
    """An empty file changes nothing and is told; a line of # means it."""
    file = tmp_path / "workers"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        addresses_in(file)
    file.write_text("# nobody\n")
    assert addresses_in(file) == ()
