"""What is sent, when, over how many connections, and what is told where that did not go as it should."""

import asyncio
from time import perf_counter

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replay.endpoints import DONE, MODEL, faking, stream, token, whole
from tests.replay.replaying import replayed, requests
from tests.support.virtual_time import run_in_virtual_time

from understudy.engine import SegmentPrompt, TokenPrompt
from understudy.replay import PromptTokens, Replay, ReplaySettings, Survey, findings, notes_on_replay
from understudy.workload import ClosedLoop, OpenLoop, WorkloadRequest

SPEEDS = (0.5, 1.0, 10.0)


def notes_of(replay: Replay) -> list[str]:
    """Return the notes on a replay of a trace that gives no cause for any."""
    return notes_on_replay(
        replay,
        Survey(num_requests=0, num_with_outputs=0),
        PromptTokens(),
        wanted_connections=replay.settings.max_connections,
    )


def test_what_is_sent() -> None:
    """The prompt as ids, a stream of exactly so many tokens, and priority, salt and session where the workload has them."""
    plain = WorkloadRequest(request_id="a", arrival_ns=0, prompt=TokenPrompt((5, 6)), output_tokens=3)
    full = WorkloadRequest(
        request_id="ä \n",
        arrival_ns=1,
        prompt=SegmentPrompt(3, (7,), 16),
        output_tokens=4,
        session_id="s/1 \r\nX-Evil: 1",
        priority=-2,
        cache_salt="salt",
    )

    async def run() -> None:
        async with faking(whole, max_model_len=100) as fake:
            await replayed(fake.url, OpenLoop([plain, full]))
        common = {
            "model": MODEL,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        assert fake.bodies == [
            common | {"prompt": [5, 6], "max_tokens": 3, "min_tokens": 3},
            common
            | {
                "prompt": [1007, 1000, 1000],
                "max_tokens": 4,
                "min_tokens": 4,
                "priority": -2,
                "cache_salt": "salt",
            },
        ]
        first, second = fake.headers
        assert ("X-Session-ID" in first, first["X-Request-Id"]) == (False, "a")
        assert (second["X-Session-ID"], second["X-Request-Id"]) == ("s/1%20%0D%0AX-Evil:%201", "%C3%A4%20%0A")
        assert "Authorization" not in first

    run_in_virtual_time(run())


@settings(max_examples=15, deadline=None)
@given(gaps_ns=st.lists(st.integers(0, 10**9), min_size=1, max_size=12), speed=st.sampled_from(SPEEDS))
def test_requests_are_sent_when_they_are_due(gaps_ns: list[int], speed: float) -> None:
    """So many times closer together as the trace's clock is faster, the first at once; its clock is that of all times."""
    workload, at_ns = [], 5 * 10**12
    for number, gap_ns in enumerate(gaps_ns):
        at_ns += gap_ns
        workload.append(
            WorkloadRequest(
                request_id=str(number), arrival_ns=at_ns, prompt=TokenPrompt([9]), output_tokens=1
            )
        )
    came: list[float] = []

    async def late(request: web.Request, _count: int) -> web.StreamResponse:
        came.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.25)
        return await stream(request, token(1, "length"), DONE)

    async def run() -> Replay:
        async with faking(late) as fake:
            return await replayed(fake.url, OpenLoop(workload), ReplaySettings(speed=speed))

    replay = run_in_virtual_time(run())
    for record, request, loop_seconds in zip(replay.records, workload, came, strict=True):
        seen = record.seen
        assert (seen.request_id, seen.arrival_ns) == (request.request_id, request.arrival_ns)
        assert record.sent_ns == pytest.approx(request.arrival_ns, abs=1_000)
        elapsed_ns = (request.arrival_ns - workload[0].arrival_ns) / speed
        assert (loop_seconds - came[0]) * 1e9 == pytest.approx(elapsed_ns, abs=1_000)
        assert seen.first_token_ns == pytest.approx(request.arrival_ns + 0.25e9 * speed, abs=1_000)
    assert any("times as fast" in note for note in notes_of(replay)) == (speed != 1.0)


@pytest.mark.parametrize(("limit", "num_held_back"), [(1, 5), (2, 4), (6, 0)])
def test_connections_are_bounded(limit: int, num_held_back: int) -> None:
    """Never more than allowed are under way; who had to wait is counted, and its time counts from when it was due."""
    under_way, most = 0, 0

    async def slow(request: web.Request, count: int) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(1.0)
        under_way -= 1
        return await whole(request, count)

    async def run() -> Replay:
        async with faking(slow) as fake:
            return await replayed(
                fake.url, OpenLoop(requests(6, gap_ns=100)), ReplaySettings(max_connections=limit)
            )

    replay = run_in_virtual_time(run())
    assert most == limit
    assert replay.punctuality.num_held_back == num_held_back
    assert replay.punctuality.num_late == 0
    last = replay.records[-1].seen
    assert last.first_token_ns is not None
    assert last.first_token_ns - last.arrival_ns == pytest.approx(-(-6 // limit) * 1e9, abs=1e6)
    told = [note for note in notes_of(replay) if "held back" in note]
    assert len(told) == bool(num_held_back)
    for note in told:
        assert note.startswith(f"{num_held_back} of 6 requests were held back, up to {6 // limit - 1} s")


def test_falling_behind_is_told() -> None:
    """A client whose thread was busy when requests were due says how many were late, and by how much."""

    async def hang(request: web.Request, count: int) -> web.StreamResponse:
        if count == 0:
            end = perf_counter() + 0.1
            while perf_counter() < end:
                pass
        return await whole(request, count)

    async def run() -> Replay:
        async with faking(hang) as fake:
            return await replayed(fake.url, OpenLoop(requests(3, gap_ns=20_000_000)))

    replay = asyncio.run(run())
    assert replay.punctuality.num_late >= 1
    assert any("late by a clock on the wall, up to 0." in note for note in notes_of(replay))
    assert all(
        record.sent_ns is not None and record.sent_ns >= record.seen.arrival_ns for record in replay.records
    )


def test_workers_are_numbered_by_name() -> None:
    """The gateway's headers name the worker and its reason; numbers are places among the sorted names."""
    names = ["http://b", None, "http://a", "http://b"]

    async def route(request: web.Request, count: int) -> web.StreamResponse:
        name = names[count]
        headers = {} if name is None else {"X-Understudy-Worker": name, "X-Understudy-Reason": f"why {count}"}
        return await stream(request, token(1), token(2, "length"), DONE, headers=headers)

    async def run() -> Replay:
        async with faking(route) as fake:
            return await replayed(fake.url, OpenLoop(requests(4)))

    found = findings("mine", run_in_virtual_time(run()))
    assert found.worker_names == ["http://a", "http://b"]
    assert [record.seen.worker for record in found.records] == [1, None, 0, 1]
    assert [record.worker_name for record in found.records] == names
    assert [record.seen.reason for record in found.records] == ["why 0", None, "why 2", "why 3"]
    assert [worker.requests for worker in found.summary.workers] == [1, 2]
    assert [worker.output_tokens for worker in found.summary.workers] == [2, 4]


@settings(max_examples=10, deadline=None)
@given(concurrency=st.integers(1, 5), think_ns=st.integers(0, 10**9), sessions=st.integers(1, 3))
def test_closed_loops_wait_for_answers(concurrency: int, think_ns: int, sessions: int) -> None:
    """Never more clients than there are, never two requests of a session, and a rest between an answer and the next."""
    workload = [
        WorkloadRequest(
            request_id=str(number),
            arrival_ns=0,
            prompt=TokenPrompt([9]),
            output_tokens=1,
            session_id=str(number % sessions),
        )
        for number in range(9)
    ]

    async def slow(request: web.Request, count: int) -> web.StreamResponse:
        await asyncio.sleep(0.1 + 0.07 * (count % 3))
        return await whole(request, count)

    async def run() -> Replay:
        async with faking(slow) as fake:
            return await replayed(fake.url, ClosedLoop(workload, concurrency, think_ns))

    records = [record.seen for record in run_in_virtual_time(run()).records]
    assert sorted(record.request_id for record in records) == sorted(
        request.request_id for request in workload
    )
    for record in records:
        ends = [other.finish_ns for other in records if other.finish_ns is not None]
        under_way = [
            other
            for other in records
            if other.finish_ns is not None and other.arrival_ns <= record.arrival_ns < other.finish_ns
        ]
        assert len(under_way) <= min(concurrency, sessions)
        assert len({int(other.request_id) % sessions for other in under_way}) == len(under_way)
        brought = [end for end in ends if abs(end + think_ns - record.arrival_ns) <= 1_000_000]
        assert record.arrival_ns == 0 or brought


def test_an_answer_of_another_length_is_told() -> None:
    """A server that does not know ignore_eos stops where it likes; the note asks whether it does."""

    async def short(request: web.Request, _count: int) -> web.StreamResponse:
        return await stream(request, token(1, "stop"), DONE)

    async def run() -> Replay:
        async with faking(short) as fake:
            return await replayed(fake.url, OpenLoop(requests(2)))

    replay = run_in_virtual_time(run())
    assert [record.seen.status for record in replay.records] == ["stop", "stop"]
    assert any(
        note.startswith("2 of 2 requests got an answer of another length") for note in notes_of(replay)
    )
    assert any(
        note.startswith("No answer tells how many tokens came from the cache") for note in notes_of(replay)
    )
