"""Clients leave, fail and are refused: nothing of them stays, and what is counted is what happened."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving import MODEL, Json, Served, raw_request, serving, until
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.engine_clock import FreeClock
from understudy.server.faults import FaultPlan, HttpError

PROMPT_TOKENS = 40
ENDLESS = 1500
MIXED = ("--max-model-len", "2048", "--max-num-seqs", "4", "--max-num-queued-reqs", "12")


class Counted(NamedTuple):
    """What one client should have moved."""

    finished: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    failed: int = 0
    rejected: int = 0

    def __add__(self, other: tuple[int, ...]) -> "Counted":  # type: ignore[override] # sums, where tuples would be joined
        return Counted(*(one + two for one, two in zip(self, other, strict=True)))


class Visit(NamedTuple):
    """What a client does, when, and how many tokens it asks for or waits for."""

    kind: str
    at_seconds: float
    num_tokens: int


_VISITS = st.lists(
    st.builds(
        Visit,
        kind=st.sampled_from(["whole", "stream", "two", "left", "left-at-once", "bad", "too-long", "lost"]),
        at_seconds=st.floats(0, 0.5),
        num_tokens=st.integers(1, 8),
    ),
    min_size=5,
    max_size=25,
)


@settings(max_examples=25)
@given(visits=_VISITS, seed=st.integers(0, 9), is_async=st.booleans())
def test_nothing_stays_and_counters_add_up(visits: list[Visit], *, seed: int, is_async: bool) -> None:
    """After any mix of finished, left, failed and rejected requests; a client that left counts nowhere as finished."""

    async def main() -> None:
        plan = FaultPlan(seed=seed, faults=(HttpError(rate=0.2),))
        flags = (*MIXED, *(() if is_async else ("--no-async-scheduling",)))
        async with serving(*flags, faults=plan) as server:
            expected = sum(await asyncio.gather(*(_visit(server, visit) for visit in visits)), Counted())
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()
            await _assert_counted(server, expected)
            await server.session.close()
            await until(lambda: server.running.num_connections == 0)
            await until(lambda: len(asyncio.all_tasks()) == 1)

    run_in_virtual_time(main())


async def _visit(server: Served, visit: Visit) -> Counted:
    await asyncio.sleep(visit.at_seconds)
    body: Json = {"model": MODEL, "prompt": [300] * PROMPT_TOKENS, "max_tokens": visit.num_tokens}
    match visit.kind:
        case "left" | "left-at-once":
            count = 0 if visit.kind == "left-at-once" else visit.num_tokens
            return await _leave(server, count)
        case "bad":
            body["temperature"] = -1
        case "too-long":
            body["prompt"] = [300] * 3000
        case "lost":
            body["model"] = "another"
        case "two":
            body["n"] = 2
        case "stream":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
    reply = await server.post("/v1/completions", body)
    if reply.status in {500, 503}:
        return Counted(failed=reply.status == 500, rejected=reply.status == 503)
    if visit.kind in {"bad", "too-long", "lost"}:
        assert reply.status in {400, 404}, reply.text
        return Counted()
    assert reply.status == 200, reply.text
    usage = (reply.events[-1] if reply.events else reply.json)["usage"]
    samples = body.get("n", 1)
    return Counted(samples, samples * PROMPT_TOKENS, usage["completion_tokens"])


async def _leave(server: Served, num_tokens: int) -> Counted:
    """Leave with the very token that was waited for: in virtual time no other comes before that is noticed."""
    stream = await server.open(
        "/v1/completions", {"prompt": [300] * PROMPT_TOKENS, "max_tokens": ENDLESS, "stream": True}
    )
    seen = await stream.events(num_tokens) if num_tokens else b""
    stream.leave()
    await asyncio.sleep(0.001)
    if not num_tokens:
        return Counted()
    if b" 200 " not in seen:
        return Counted(failed=b" 500 " in seen, rejected=b" 503 " in seen)
    assert seen.count(b"data: ") == num_tokens
    return Counted(0, PROMPT_TOKENS, num_tokens)


async def _assert_counted(server: Served, expected: Counted) -> None:
    page = await server.metrics()
    ended = {
        reason: page.total("vllm:request_success_total", finished_reason=reason)
        for reason in ("stop", "length", "abort", "error")
    }
    assert ended == {"stop": 0, "length": expected.finished, "abort": 0, "error": 0}
    assert page.total("vllm:prompt_tokens_total") == expected.prompt_tokens
    assert page.total("vllm:generation_tokens_total") == expected.generation_tokens
    for gauge in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert page.total(gauge) == 0


def test_a_whole_answer_that_nobody_waits_for_ends() -> None:
    """A client that leaves before its answer takes the work with it, running or waiting."""

    async def main() -> None:
        async with serving("--max-model-len", "2048", "--max-num-seqs", "1") as server:
            body = {"prompt": [300] * PROMPT_TOKENS, "max_tokens": ENDLESS}
            streams = [await server.open("/v1/completions", body) for _ in range(3)]
            await asyncio.sleep(0.1)
            gauges = server.worker.frontend.gauges()[0]
            assert (gauges.running, gauges.waiting) == (1, 2)
            for stream in reversed(streams):
                stream.leave()
            await asyncio.sleep(0.1)
            server.assert_nothing_is_left()
            page = await server.metrics()
            assert page.total("vllm:num_requests_running") == page.total("vllm:num_requests_waiting") == 0

    run_in_virtual_time(main())


def test_ten_thousand_clients_leave() -> None:
    """Whenever they do, whoever stays gets the answer that it would have got alone."""
    num_leaving, at_once, order = 10_000, 100, Random(3)

    async def main() -> None:
        async with serving(
            "--max-model-len", "4096", "--max-num-seqs", "64", "--num-gpu-blocks-override", "2000",
            clock=FreeClock(),
        ) as server:  # fmt: skip
            steady: Json = {"prompt": [400] * 20, "max_tokens": 50}
            alone = await server.complete(**steady)
            body = {"model": MODEL, "prompt": [300] * PROMPT_TOKENS, "max_tokens": ENDLESS}
            leaving = [raw_request("/v1/completions", body | {"stream": stream}) for stream in (True, False)]
            for _ in range(num_leaving // at_once):
                staying = asyncio.create_task(server.complete(**steady))
                await asyncio.gather(
                    *(
                        _come_and_go(server, leaving[place % 2], order.randrange(12))
                        for place in range(at_once)
                    )
                )
                assert (await staying).json["choices"] == alone.json["choices"]
            await until(lambda: server.running.num_connections <= 1)
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()
            page = await server.metrics()
            assert page.total("vllm:request_success_total") == 1 + num_leaving / at_once
            assert next(server.worker.frontend._serials) > num_leaving / 2

    asyncio.run(main())


async def _come_and_go(server: Served, request: bytes, turns: int) -> None:
    loop = asyncio.get_running_loop()
    assert server.running.port is not None
    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", server.running.port)
    transport.write(request)
    for _ in range(turns):
        await asyncio.sleep(0)
    transport.abort()


def test_those_who_stay_are_undisturbed() -> None:
    """Streams beside which others come and go bring the same tokens, each in its place."""

    async def main(company: Sequence[int]) -> list[str]:
        async with serving("--max-model-len", "2048", "--max-num-seqs", "8") as server:
            steady = [
                asyncio.create_task(
                    server.complete(prompt=[500 + number] * 30, max_tokens=60, stream=True, seed=number)
                )
                for number in range(3)
            ]
            for num_tokens in company:
                await asyncio.sleep(0.01)
                await _leave(server, num_tokens)
            replies = await asyncio.gather(*steady)
            return ["".join(event["choices"][0]["text"] for event in reply.events) for reply in replies]

    assert run_in_virtual_time(main([])) == run_in_virtual_time(main([1, 0, 3, 2, 0, 5]))
