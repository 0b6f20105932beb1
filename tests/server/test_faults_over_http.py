"""What a client sees of each fault, and that the server is as before when it is over."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest
from tests.server.serving import Reply, Served, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.application import application
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.faults import (
    Crash,
    Cut,
    Fault,
    FaultPlan,
    FreezeMetrics,
    HttpError,
    Refuse,
    Slow,
    Stall,
)
from understudy.server.routes.adapters import load_adapter

NUM_TOKENS = 8
BODY: dict[str, Any] = {"prompt": [300] * 20, "max_tokens": NUM_TOKENS}
FLAGS = ("--max-model-len", "1024", "--max-num-seqs", "8", "--decode-seconds-per-step", "0.01")


def _serve(
    test: Callable[[Served], Awaitable[None]], *faults: Fault, scale: str = "1", flags: Sequence[str] = ()
) -> None:
    async def main() -> None:
        plan = FaultPlan(faults=faults)
        async with (
            serving(*FLAGS, "--time-scale", scale, *flags, faults=plan) as server,
            FaultTimetable(server.worker, server.running, application),
        ):
            await test(server)
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()

    run_in_virtual_time(main())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _text(reply: Reply) -> str:
    return "".join(event["choices"][0]["text"] for event in reply.events)


async def _undisturbed(server: Served) -> str:
    """Return the text of the answer without any fault."""
    plan, server.worker.faults.plan = server.worker.faults.plan, FaultPlan()
    reply = await server.complete(**BODY)
    server.worker.faults.plan = plan
    text: str = reply.json["choices"][0]["text"]
    return text


async def _injected(server: Served, kind: str) -> float:
    return (await server.metrics()).total("understudy:faults_injected_total", kind=kind)


def test_an_error_status_costs_no_work() -> None:
    """At its rate, in vLLM's shape, before the engine hears of the request; other routes are spared."""

    async def test(server: Served) -> None:
        replies = [await server.complete(**BODY, stream=number % 2 == 1) for number in range(40)]
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {200, 503}
        for reply in replies:
            if reply.status == 503:
                assert reply.json["error"] == {
                    "message": "injected fault",
                    "type": "InjectedFault",
                    "param": None,
                    "code": 503,
                }
        page = await server.metrics()
        assert page.total("vllm:request_success_total") == statuses.count(200)
        assert await _injected(server, "error") == statuses.count(503)

    _serve(test, HttpError(status=503, rate=0.5))


@pytest.mark.parametrize("scale", ["1", "0.1"])
@pytest.mark.parametrize("after_tokens", [0, 3, NUM_TOKENS])
def test_a_stall_holds_a_stream_for_its_seconds(after_tokens: int, scale: str) -> None:
    """So many tokens come as ever, then none for the engine's seconds; the rest comes at once, and nothing is lost."""

    async def test(server: Served) -> None:
        text = await _undisturbed(server)
        stream = await server.open("/v1/completions", BODY | {"stream": True})
        start = _now()
        if after_tokens:
            assert (await stream.events(after_tokens)).count(b"data: ") == after_tokens
        stalled = _now()
        rest = asyncio.create_task(stream.rest())
        await asyncio.sleep(4.9 * float(scale) - (_now() - start))
        assert not rest.done()
        await rest
        assert _now() - stalled == pytest.approx(5 * float(scale), abs=0.02)
        assert _text(await server.complete(**BODY, stream=True)) == text
        whole_start = _now()
        assert (await server.complete(**BODY)).json["choices"][0]["text"] == text
        assert _now() - whole_start > 5 * float(scale)
        assert await _injected(server, "stall") == 3

    _serve(test, Stall(after_tokens=after_tokens, stall_seconds=5), scale=scale)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_stall_without_end_lasts_until_the_client_leaves(is_streamed: bool) -> None:  # noqa: FBT001 # a parameter
    """The engine finishes; the client gets what came before, and whoever is not struck gets all."""

    async def test(server: Served) -> None:
        stream = await server.open("/v1/completions", BODY | {"stream": is_streamed})
        if is_streamed:
            await stream.events(2)
        rest = asyncio.create_task(stream.rest())
        await asyncio.sleep(3)
        assert not rest.done()
        assert server.worker.frontend.num_unfinished == 0
        stream.leave()
        await rest
        await asyncio.sleep(0.1)
        assert server.running.num_connections == 0

    _serve(test, Stall(after_tokens=2))


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("after_tokens", [0, 3])
def test_a_cut_ends_a_stream_early(after_tokens: int, done: bool) -> None:  # noqa: FBT001 # parameters
    """With [DONE] as if all had been said, or with a broken connection; the rest of the work is given up."""

    async def test(server: Served) -> None:
        text = await _undisturbed(server)
        if done:
            reply = await server.complete(**BODY, stream=True)
            assert len(reply.events) == after_tokens
            assert reply.ends_with_done
            assert text.startswith(_text(reply))
            assert all(event["choices"][0]["finish_reason"] is None for event in reply.events)
        else:
            with pytest.raises(aiohttp.ClientPayloadError):
                await server.complete(**BODY, stream=True)
            stream = await server.open("/v1/completions", BODY | {"stream": True})
            seen = await stream.rest()
            assert seen.count(b"data: ") in {0, after_tokens}
            assert b"[DONE]" not in seen
        await asyncio.sleep(0.1)
        server.assert_nothing_is_left()
        page = await server.metrics()
        assert page.total("vllm:request_success_total") == 1

    _serve(test, Cut(after_tokens=after_tokens, done=done))


def test_a_cut_breaks_a_whole_answer_off() -> None:
    """Whose client sees a connection that ends without an answer; the next one works."""

    async def test(server: Served) -> None:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await server.complete(**BODY)
        server.worker.faults.plan = FaultPlan()
        assert (await server.complete(**BODY)).status == 200

    _serve(test, Cut(after_tokens=1))


def test_slowness_stretches_steps_while_it_holds() -> None:
    """Three times as long, but not before its time and not after."""

    async def seconds(server: Served) -> float:
        reply = await server.complete(**BODY, stream=True)
        assert reply.status == 200
        return _now()

    async def test(server: Served) -> None:
        spans = []
        await seconds(server)
        for start in (1, 2, 4):
            await asyncio.sleep(start - _now())
            spans.append(await seconds(server) - start)
        before, during, after = spans
        assert during == pytest.approx(3 * before, rel=0.02)
        assert after == pytest.approx(before, rel=0.02)

    _serve(test, Slow(factor=3, at_seconds=2, for_seconds=1))


def test_frozen_metrics_show_what_they_showed() -> None:
    """The page stands still from the first look on, and is right again behind the fault."""

    async def test(server: Served) -> None:
        await server.complete(**BODY)
        await asyncio.sleep(2.5 - _now())
        frozen = (await server.get("/metrics")).text
        await server.complete(**BODY)
        assert (await server.get("/metrics")).text == frozen
        await asyncio.sleep(3.5 - _now())
        assert (await server.metrics()).total("vllm:request_success_total") == 2

    _serve(test, FreezeMetrics(at_seconds=2, for_seconds=1))


def test_refused_connections() -> None:
    """New ones are refused while the fault holds, those that are open go on."""

    async def test(server: Served) -> None:
        stream = await server.open("/v1/completions", BODY | {"max_tokens": 300, "stream": True})
        await stream.events(1)
        await asyncio.sleep(1.5 - _now())
        with pytest.raises(ConnectionRefusedError):
            await server.open("/v1/completions", BODY)
        assert (await stream.rest()).count(b"data: ") == 300
        await asyncio.sleep(6.5 - _now())
        assert (await server.complete(**BODY)).status == 200
        assert await _injected(server, "refuse") == 1

    _serve(test, Refuse(at_seconds=1, for_seconds=5))


def test_after_a_crash_all_is_as_at_the_start() -> None:
    """Awake, without the adapters that were loaded, `vllm:` series from 0; only the stand-in's own count of faults goes on."""

    async def test(server: Served) -> None:
        at_start = (await server.get("/v1/models")).json["data"]
        assert (await server.complete(prompt=[300] * 40, max_tokens=4)).status == 200
        load_adapter(server.worker.context, "poet", "org/adapter")
        assert (await server.complete(model="poet", prompt=[300] * 40, max_tokens=4)).status == 200
        server.worker.frontend.set_pause("all")
        server.worker.sleep_state(1)
        assert (await server.metrics()).total("vllm:generation_tokens_total") == 8
        await asyncio.sleep(1.5 - _now())
        await asyncio.sleep(4.5 - _now())
        page = await server.metrics()
        assert page.total("vllm:generation_tokens_total") == 0
        assert page.total("vllm:engine_sleep_state", sleep_state="awake") == 1
        models = (await server.get("/v1/models")).json["data"]
        assert [model["id"] for model in models] == [model["id"] for model in at_start]
        assert (await server.complete(model="poet", prompt=[1], max_tokens=1)).status == 404
        assert (await server.complete(prompt=[300] * 40, max_tokens=4)).status == 200
        assert await _injected(server, "crash") == 1

    _serve(test, Crash(at_seconds=1, for_seconds=3), flags=("--enable-lora",))


def test_a_crash_breaks_everything_and_forgets_the_cache() -> None:
    """Open streams break, connections are refused, and the server comes back with a cold cache."""

    async def cached(server: Served) -> int:
        before = (await server.metrics()).total("vllm:prefix_cache_hits_total")
        reply = await server.complete(prompt=[300] * 100, max_tokens=1)
        assert reply.status == 200
        hits = (await server.metrics()).total("vllm:prefix_cache_hits_total")
        return int(hits - before)

    async def test(server: Served) -> None:
        assert await cached(server) == 0
        assert await cached(server) == 96
        opened = [
            await server.open("/v1/completions", BODY | {"max_tokens": 900, "stream": is_streamed})
            for is_streamed in (True, True, False)
        ]
        for stream in opened[:2]:
            await stream.events(1)
        await asyncio.sleep(1.5 - _now())
        for stream in opened:
            assert b"[DONE]" not in await stream.rest()
        server.assert_nothing_is_left()
        with pytest.raises(ConnectionRefusedError):
            await server.open("/v1/completions", BODY)
        await asyncio.sleep(4.5 - _now())
        page = await server.metrics()
        assert page.total("vllm:num_requests_running") == 0
        assert page.total("vllm:kv_cache_usage_perc") == 0
        assert await cached(server) == 0
        assert await cached(server) == 96
        assert await _injected(server, "crash") == 1

    _serve(test, Crash(at_seconds=1, for_seconds=3))
