"""What goes wrong inside stays with the one whom it concerns; where it concerns all, all are told."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.serving import Served, serving, until
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.answer_text import AnswerText
from understudy.server.generate.grown_answer import GrownAnswer
from understudy.server.routes.completions import _Completion
from understudy.server.streamed_answer import Growth

FLAGS = ("--max-model-len", "1024", "--max-num-seqs", "8")
BODY: dict[str, Any] = {"prompt": [300] * 20, "max_tokens": 8}


def test_an_answer_that_cannot_be_written_hurts_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stream ends with an error, the log says why, and a stream beside it brings all its tokens."""
    sound = _Completion.growth

    def growth(self: _Completion, growth: Growth) -> bytes:
        if self.head.id == "cmpl-bad":
            raise ZeroDivisionError
        return sound(self, growth)

    monkeypatch.setattr(_Completion, "growth", growth)

    async def main() -> None:
        async with serving(*FLAGS, may_fail=True) as server:
            beside = asyncio.create_task(server.complete(**BODY, stream=True))
            bad = await server.open("/v1/completions", BODY | {"stream": True, "request_id": "bad"})
            seen = await bad.rest()
            assert seen.count(b"HTTP/1.1") == 1
            assert b'"message": "Internal server error"' in seen
            assert seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert len((await beside).events) == 8
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()

    with caplog.at_level(logging.ERROR):
        run_in_virtual_time(main())
    assert any("cmpl-bad" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("breaks", ["tokens", "text"])
def test_an_answer_that_cannot_go_on_hurts_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, breaks: str
) -> None:
    """Whether no token can be made or no text: its request fails, all samples of it leave the engine, the rest goes on."""
    sound_tokens, sound_text = GrownAnswer.tokens, AnswerText.add

    def tokens(self: GrownAnswer, position: int, count: int) -> Sequence[int]:
        if self._question.sample_index == 1 and position > 2:
            raise ZeroDivisionError
        return sound_tokens(self, position, count)

    def text(self: AnswerText, token_id: int, *, ends_by_token: bool = False) -> str | None:
        if self._min_tokens == 5 and self._num_tokens > 2:
            raise ZeroDivisionError
        return sound_text(self, token_id, ends_by_token=ends_by_token)

    if breaks == "tokens":
        monkeypatch.setattr(GrownAnswer, "tokens", tokens)
    else:
        monkeypatch.setattr(AnswerText, "add", text)
    bad = BODY | {"n": 3, "min_tokens": 5, "max_tokens": 300}

    async def main() -> None:
        async with serving(*FLAGS, may_fail=True) as server:
            beside = asyncio.create_task(server.complete(**BODY, stream=True))
            stream, whole = await asyncio.gather(
                server.complete(**bad, stream=True), server.complete(**bad, stream=False)
            )
            assert stream.events[-1]["error"]["message"] == "Internal server error"
            assert stream.ends_with_done
            assert (whole.status, whole.json["error"]["message"]) == (500, "Internal server error")
            assert len((await beside).events) == 8
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()
            assert (await server.get("/health")).status == 200

    with caplog.at_level(logging.ERROR):
        run_in_virtual_time(main())


def test_when_the_engine_fails_everybody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Those in work, streamed or not, those who come later, and whoever asks for the server's health."""
    message = "The server had an error while processing your request."

    async def main() -> None:
        async with serving(*FLAGS, may_fail=True) as server:
            assert (await server.get("/health")).status == 200
            stream = await server.open("/v1/completions", BODY | {"stream": True, "max_tokens": 900})
            whole = asyncio.create_task(server.complete(**BODY | {"max_tokens": 900}))
            await stream.events(1)
            await until(lambda: server.worker.frontend.num_unfinished == 2)
            _break(server)
            seen = await stream.rest()
            assert message.encode() in seen
            assert seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            later = [await server.complete(**BODY, stream=is_streamed) for is_streamed in (True, False)]
            for reply in (await whole, *later):
                assert reply.status == 500
                assert reply.json["error"]["message"] == message
                assert reply.json["error"]["type"] == "InternalServerError"
            assert (await server.get("/health")).status == 503
            assert server.worker.frontend.num_unfinished == 0

    with caplog.at_level(logging.CRITICAL):
        run_in_virtual_time(main())


def _break(server: Served) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    server.worker.frontend.loop.engines[0].scheduler.schedule = broken  # type: ignore[assignment] # broken on purpose
