"""Promises of asking workers how they are: what is told arrives, and whoever lies, stalls or never ends tells nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from tests.gateway.fake_worker import Answer, Asked, hangs, says, working
from tests.gateway.kv_events.hearing import really_held
from tests.server.serving import MODEL, serving, until

from understudy.engine import LoRA
from understudy.gateway import kv_lists, probes
from understudy.gateway.kv_events import HashCheck
from understudy.gateway.probes import WorkerProbe
from understudy.gateway.source_state import SourceState
from understudy.gateway.worker_http import WorkerHttp, question_session
from understudy.server.routes.adapters import load_adapter

SLOT = 7
FLAGS = ("--max-model-len", "256", "--num-gpu-blocks-override", "60", "--time-scale", "0.01")


@dataclass
class Told:
    """All that a probe told."""

    passed: list[bool] = field(default_factory=list)
    loads: list[tuple[int, int, float]] = field(default_factory=list)
    served: list[Mapping[str, LoRA | None]] = field(default_factory=list)
    held: Counter[int] = field(default_factory=Counter)
    num_lists: int = 0
    list_states: list[tuple[SourceState, str | None]] = field(default_factory=list)

    def probed(self, slot: int, *, passed: bool) -> None:
        """Hear of its health."""
        assert slot == SLOT
        self.passed.append(passed)

    def reported(self, slot: int, running: int, waiting: int, kv_usage: float, at_ns: int) -> None:
        """Hear of its load."""
        assert slot == SLOT
        assert at_ns > 0
        self.loads.append((running, waiting, kv_usage))

    def models(self, slot: int, models: Mapping[str, LoRA | None]) -> None:
        """Hear of its models."""
        assert slot == SLOT
        self.served.append(models)

    def synchronised(self, slot: int, hashes: Sequence[int]) -> None:
        """Hear of its blocks."""
        assert slot == SLOT
        assert self.list_states[-1][0] is SourceState.FOLLOWED
        self.held = Counter(hashes)
        self.num_lists += 1

    def lists_changed(self, slot: int, state: SourceState, sentence: str | None) -> None:
        """Hear of its lists."""
        assert slot == SLOT
        self.list_states.append((state, sentence))


@asynccontextmanager
async def probing(
    url: str, *, lists_blocks: bool = False, block_size: int = 16, api_key: str | None = None, **options: Any
) -> AsyncIterator[tuple[WorkerProbe, Told]]:
    """Ask the worker at a URL every 10 ms."""
    told = Told()
    async with question_session() as session:
        probe = WorkerProbe(
            SLOT,
            WorkerHttp(url, session, api_key),
            told,
            HashCheck("sha256", block_size, None),
            told.lists_changed,
            **{
                "heartbeat_seconds": 0.01,
                "synchronisation_seconds": 0.03,
                "max_blocks": 10_000,
                "random": Random(0),
                **options,
            },
        )
        probe.lists_blocks = lists_blocks
        probe.start()
        try:
            yield probe, told
        finally:
            await probe.close()


def test_a_worker_tells_its_load_and_its_models() -> None:
    """The real routes of a server, while it works and when it is idle again."""

    async def main() -> None:
        async with serving(*FLAGS, "--time-scale", "1") as server, probing(server.url) as (_, told):
            await until(lambda: bool(told.loads))
            stream = await server.open(
                "/v1/completions", {"prompt": [300] * 50, "max_tokens": 200, "stream": True}
            )
            await until(lambda: any(running == 1 and usage > 0 for running, _, usage in told.loads))
            stream.leave()
            await until(lambda: told.loads[-1] == (0, 0, 0.0))
            assert all(told.passed)
            assert told.served == [{MODEL: None}]
            assert told.list_states == []

    asyncio.run(main())


@pytest.mark.parametrize("inline_bytes", [0, 65_536])
def test_a_worker_without_events_lists_its_blocks(inline_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, copies included; that is a report of its load, too. Long lists are read in a thread."""
    monkeypatch.setattr(kv_lists, "_INLINE_BYTES", inline_bytes)

    async def main() -> None:
        async with (
            serving(*FLAGS, "--enable-kv-blocks-endpoint") as server,
            probing(server.url, lists_blocks=True) as (probe, told),
        ):
            await until(lambda: told.num_lists > 0)
            await asyncio.gather(*(server.complete(prompt=[300] * 50, max_tokens=30) for _ in range(3)))
            await until(lambda: told.held == really_held(server) and bool(told.held))
            assert told.list_states == [(SourceState.FOLLOWED, None)]
            assert probe.list_state is SourceState.FOLLOWED
            assert max(told.held.values()) > 1
            probe.lists_blocks = False
            num_lists, num_probes = told.num_lists, len(told.passed)
            await until(lambda: len(told.passed) > num_probes + 6)
            assert told.num_lists <= num_lists + 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("flags", "block_size", "state", "told_of"),
    [
        ((), 16, SourceState.ABSENT, "/kv_blocks"),
        (("--enable-kv-blocks-endpoint",), 32, SourceState.DIFFERS, "--block-size 16"),
        (
            ("--enable-kv-blocks-endpoint", "--prefix-caching-hash-algo", "sha256_cbor"),
            16,
            SourceState.DIFFERS,
            "sha256_cbor",
        ),
    ],
)
def test_lists_that_tell_nothing_are_told_of(
    flags: Sequence[str], block_size: int, state: SourceState, told_of: str
) -> None:
    """A worker without lists, and those that cut or hash blocks otherwise; nothing of them is taken."""

    async def main() -> None:
        async with (
            serving(*FLAGS, *flags) as server,
            probing(server.url, lists_blocks=True, block_size=block_size) as (_, told),
        ):
            await until(lambda: bool(told.list_states))
            await until(lambda: len(told.passed) > 5)
            ((last, sentence),) = told.list_states
            assert last is state
            assert told_of in (sentence or "")
            assert told.num_lists == 0

    asyncio.run(main())


def test_adapters_are_told_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their paths; not again as long as nothing changes."""
    monkeypatch.setattr(probes, "MODELS_SECONDS", 0.02)

    async def main() -> None:
        async with serving(*FLAGS, "--enable-lora") as server, probing(server.url) as (_, told):
            await until(lambda: bool(told.served))
            load_adapter(server.worker.context, "poet", "org/poet")
            await until(lambda: len(told.served) == 2)
            num_probes = len(told.passed)
            await until(lambda: len(told.passed) > num_probes + 6)
            assert told.served == [{MODEL: None}, {MODEL: None, "poet": LoRA("poet", "org/poet")}]

    asyncio.run(main())


OK_HEAD = b"HTTP/1.1 200 OK\r\n"
LOAD = b"vllm:num_requests_running 1\nvllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 0.5\n"


def framed(body: bytes) -> bytes:
    """Return an answer that is as it should be."""
    return OK_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Send a body that never ends."""
    del asked
    writer.write(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


WRONG: Mapping[str, Answer] = {
    "closed": says(b"", closes=True),
    "no HTTP": says(b"\0\1\2\3 what?\r\n\r\n", closes=True),
    "half": says(OK_HEAD + b"Content-Length: 9\r\n\r\nhalf", closes=True),
    "endless": endless,
    "endless header": says(OK_HEAD + b"X: " + b"y" * 100_000, closes=True),
    "silent": hangs,
    "moved": says(b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n"),
    "ill": says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
}


def by_path(answers: Mapping[str, Answer], other: Answer) -> Answer:
    """Return an answer that depends on the path."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await answers.get(asked.target, other)(asked, writer)

    return answer


@pytest.mark.parametrize("wrong", WRONG)
def test_whoever_does_not_answer_well_is_not_well(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that breaks off, lies, stalls or never ends; nothing else is asked of it, and no redirect is followed."""
    monkeypatch.setattr(probes, "QUESTION_SECONDS", 0.05)

    async def main() -> None:
        async with working(WRONG[wrong]) as (worker,), probing(worker.url) as (_, told):
            await until(lambda: len(told.passed) >= 3)
            assert not any(told.passed)
            assert {asked.target for asked in worker.asked} == {"/health"}

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [*WRONG, "nonsense"])
def test_a_page_that_is_wrong_tells_nothing(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of load, models and blocks alike; the worker is as healthy as it says, and it is asked again."""
    monkeypatch.setattr(probes, "QUESTION_SECONDS", 0.25)
    monkeypatch.setattr(probes, "MODELS_SECONDS", 0.02)
    monkeypatch.setattr(probes, "MOST_PAGE_BYTES", 1000)
    monkeypatch.setattr(kv_lists, "LIST_SECONDS", 0.25)

    async def main() -> None:
        other = WRONG.get(wrong) or says(framed(b"\xc1 nonsense"))
        answer = by_path({"/health": says(framed(b""))}, other)
        async with (
            working(answer) as (worker,),
            probing(worker.url, lists_blocks=True, max_blocks=10) as (_, told),
        ):
            await until(lambda: len(told.passed) >= 3)
            assert all(told.passed)
            assert (told.loads, told.served, told.num_lists, told.list_states) == ([], [], 0, [])
            targets = [asked.target for asked in worker.asked]
            assert all(targets.count(each) > 1 for each in ("/metrics", "/v1/models", "/kv_blocks"))
            assert "/ok" not in targets

    asyncio.run(main())


def test_a_worker_is_asked_one_question_at_a_time() -> None:
    """However slowly it answers, and however often it is to be asked."""

    async def main() -> None:
        busy = 0

        async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
            nonlocal busy
            assert busy == 0
            busy += 1
            await asyncio.sleep(0.02)
            busy -= 1
            writer.write(framed(LOAD if asked.target == "/metrics" else b"{}"))

        async with working(slow) as (worker,), probing(worker.url, heartbeat_seconds=0.001) as (_, told):
            await until(lambda: len(told.loads) >= 3)
            assert told.loads[0] == (1, 2, 0.5)
            assert worker.num_connections == 1

    asyncio.run(main())


def test_a_key_is_sent_where_the_worker_wants_one() -> None:
    """In place of a client's."""

    async def main() -> None:
        async with (
            working(says(framed(b"{}"))) as (worker,),
            probing(worker.url, api_key="secret") as (_, told),
        ):
            await until(lambda: len(told.passed) >= 2)
            assert all(asked.values("Authorization") == ["Bearer secret"] for asked in worker.asked)

    asyncio.run(main())


def test_first_questions_are_spread() -> None:
    """Over one heartbeat, so that a fleet is not asked at one moment."""

    async def main() -> None:
        async with question_session() as session:
            firsts = {
                WorkerProbe(
                    SLOT,
                    WorkerHttp("http://h", session),
                    Told(),
                    HashCheck("sha256", 16, None),
                    Told().lists_changed,
                    heartbeat_seconds=2.0,
                    synchronisation_seconds=5.0,
                    max_blocks=1,
                    random=Random(seed),
                )._first_seconds
                for seed in range(50)
            }
        assert len(firsts) == 50
        assert all(0 <= first < 2 for first in firsts)

    asyncio.run(main())


def test_who_was_away_is_asked_for_everything_again() -> None:
    """It may be another one, with other models and blocks."""

    async def main() -> None:
        is_well = True

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            if asked.target == "/health" and not is_well:
                await WRONG["ill"](asked, writer)
            else:
                body = b'{"data": [{"id": "%d"}]}' % len(worker.asked)
                writer.write(framed(body))

        async with working(answer) as (worker,), probing(worker.url) as (_, told):
            await until(lambda: len(told.served) == 1)
            is_well = False
            await until(lambda: not told.passed[-1])
            assert len(told.served) == 1
            is_well = True
            await until(lambda: len(told.served) == 2)

    asyncio.run(main())
