"""Requests that fail: each is counted for what it was, none is sent twice, and the others go on."""

import asyncio

import pytest
from aiohttp import web
from tests.replay.endpoints import DONE, Answer, faking, stream, token, whole
from tests.replay.replaying import open_session_to, replayed, requests
from tests.support.virtual_time import run_in_virtual_time

from understudy.errors import InputError
from understudy.replay import (
    PromptTokens,
    Replay,
    ReplaySettings,
    Served,
    Survey,
    endpoint,
    findings,
    notes_on_replay,
    open_session,
)
from understudy.workload import ClosedLoop, OpenLoop

KEY = "sk-very-secret"
NOTHING = Survey(num_requests=0, num_with_outputs=0)


async def _error(_request: web.Request, count: int) -> web.StreamResponse:
    return web.json_response({"error": {"message": f"no {count}"}}, status=503)


async def _redirect(_request: web.Request, _count: int) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/v1/completions")


async def _break(request: web.Request, _count: int) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _break_within(request: web.Request, count: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(token(1))
    await asyncio.sleep(0.01)
    return await _break(request, count)


async def _no_done(request: web.Request, _count: int) -> web.StreamResponse:
    return await stream(request, token(1), token(2, "length"))


async def _no_stream(_request: web.Request, _count: int) -> web.StreamResponse:
    return web.json_response({"choices": [{"text": "a", "finish_reason": "length"}]})


async def _told_within(request: web.Request, _count: int) -> web.StreamResponse:
    said = b'data: {"error": {"message": "lost", "type": "BadGatewayError", "param": null, "code": 502}}\n\n'
    return await stream(request, token(1), said)


async def _never(_request: web.Request, _count: int) -> web.StreamResponse:
    await asyncio.sleep(1e6)
    return web.Response()


FAILURES: dict[str, tuple[Answer, int]] = {
    "http-503": (_error, 0),
    "http-307": (_redirect, 0),
    "broken": (_break, 0),
    "broken, within": (_break_within, 1),
    "broken, without [DONE]": (_no_done, 2),
    "unreadable": (_no_stream, 0),
    "error-502": (_told_within, 1),
    "timeout": (_never, 0),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_counted_and_the_others_go_on(name: str) -> None:
    """Of three requests the second fails: it was sent once, has its own status, and what was seen of it is kept."""
    answer, num_tokens = FAILURES[name]

    async def run() -> None:
        async def mixed(request: web.Request, count: int) -> web.StreamResponse:
            return await (answer if count == 1 else whole)(request, count)

        async with faking(mixed) as fake:
            replay = await replayed(fake.url, OpenLoop(requests(3)), ReplaySettings(timeout_seconds=5.0))
            assert len(fake.bodies) == 3
        status = name.split(",", maxsplit=1)[0]
        assert [record.seen.status for record in replay.records] == ["length", status, "length"]
        failed = replay.records[1].seen
        assert (failed.finish_ns, failed.output_tokens) == (None, num_tokens)
        summary = findings("n", replay).summary
        assert summary.failed == {status: 1}
        assert (summary.requests, summary.finished, summary.unfinished) == (3, 2, 0)
        notes = notes_on_replay(replay, NOTHING, PromptTokens(), wanted_connections=1024)
        assert any(note.startswith(f"1 of 3 requests failed: {status}.") for note in notes)

    run_in_virtual_time(run())


def test_an_endpoint_that_goes_away() -> None:
    """Requests for which no connection is made any more are unreachable, also in a closed loop, which comes to its end."""

    async def run() -> None:
        async with faking(whole) as fake:
            url = fake.url
        async with open_session() as session:
            target = endpoint(url, None)
            replay = Replay(
                ReplaySettings(), target, Served(model="m"), ClosedLoop(requests(4), 2), PromptTokens()
            )
            await replay.run(session)
        assert {record.seen.status for record in replay.records} == {"unreachable"}
        assert findings("n", replay).summary.failed == {"unreachable": 4}

    run_in_virtual_time(run())


def test_nobody_answers_at_the_start() -> None:
    """Then there is one clear error, before anything is sent."""

    async def run() -> None:
        async with faking(whole) as fake:
            url = fake.url
        with pytest.raises(InputError, match=f"cannot reach {url}: "):
            await replayed(url, OpenLoop(requests(1)))

    run_in_virtual_time(run())


@pytest.mark.parametrize("context", [None, 20])
def test_prompts_too_long_for_the_context(context: int | None) -> None:
    """An error 400 of a prompt that leaves no room counts as refused where the endpoint tells its context, else as it is."""

    async def refuse(request: web.Request, count: int) -> web.StreamResponse:
        if count == 0:
            return await whole(request, count)
        return web.json_response({"error": {"message": "too long"}}, status=400)

    async def run() -> None:
        async with faking(refuse, max_model_len=context) as fake:
            replay = await replayed(fake.url, OpenLoop(requests(2, prompt_tokens=[18, 20], output_tokens=5)))
            asked = [(body["max_tokens"], body.get("min_tokens")) for body in fake.bodies]
        summary = findings("n", replay).summary
        if context is None:
            assert asked == [(5, None), (5, None)]
            assert (summary.refused.prompt_longer_than_context, summary.failed) == (0, {"http-400": 1})
        else:
            assert asked == [(2, 2), (5, 5)]
            assert replay.num_shortened == 1
            assert (summary.refused.prompt_longer_than_context, summary.failed) == (1, {})
            assert (summary.refused.longest_prompt_tokens, summary.refused.longest_request_tokens) == (20, 25)

    run_in_virtual_time(run())


def test_the_key_is_sent_and_never_kept() -> None:
    """Every request carries it; a server that repeats it in errors and headers gets it into no result."""

    async def repeat(request: web.Request, count: int) -> web.StreamResponse:
        headers = {"X-Understudy-Worker": KEY, "X-Understudy-Reason": KEY}
        if count == 0:
            return await stream(request, token(1, KEY), DONE, headers=headers)
        if count == 1:
            said = f'data: {{"error": {{"message": "{KEY}"}}}}\n\n'
            return await stream(request, said.encode(), headers=headers)
        return web.Response(status=401, text="x" * 190 + KEY, headers=headers)

    async def run() -> None:
        async with faking(repeat) as fake:
            replay = await replayed(fake.url, OpenLoop(requests(3)), api_key=KEY)
            assert {headers["Authorization"] for headers in fake.headers} == {f"Bearer {KEY}"}
        notes = notes_on_replay(replay, NOTHING, PromptTokens(), wanted_connections=1024)
        written = repr((notes, [record.line() for record in findings("n", replay).records]))
        assert "sk-very" not in written
        assert KEY not in repr(endpoint(fake.url, KEY))

    run_in_virtual_time(run())


def test_an_interruption_keeps_what_has_happened() -> None:
    """Requests under way are unfinished, with the tokens that have come; those not yet due are not there."""

    async def stall(request: web.Request, count: int) -> web.StreamResponse:
        if count == 0:
            return await whole(request, count)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(token(1))
        await asyncio.sleep(1e6)
        return response

    async def run() -> None:
        async with faking(stall) as fake, open_session_to(fake.url) as (session, make):
            replay = make(OpenLoop(requests(3, gap_ns=10**9)))
            asyncio.get_running_loop().call_later(1.5, replay.interrupt)
            asyncio.get_running_loop().call_later(1.6, replay.interrupt)
            await replay.run(session)
            assert replay.interrupted
            assert [record.seen.status for record in replay.records] == ["length", "unfinished"]
            assert replay.records[1].seen.output_tokens == 1
            assert replay.end_ns == pytest.approx(1.5e9, abs=1e6)
            assert findings("n", replay).summary.unfinished == 1

    run_in_virtual_time(run())
