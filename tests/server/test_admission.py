"""The limits of the queue: who is refused, with which words, and that a refusal leaves nothing behind."""

import asyncio
from typing import Any

import pytest
from tests.server.serving import Reply, serving
from tests.support.virtual_time import run_in_virtual_time

FLAGS = ("--max-model-len", "1024", "--max-num-seqs", "2")
RETRY = "Please try again later or on a different instance."
WORDS = {
    "max_num_queued_reqs": f"The engine is currently busy and cannot accept new requests. {RETRY}",
    "max_num_queued_tokens": f"The engine has reached its prefill token backlog limit. {RETRY}",
}
LONG: dict[str, Any] = {"prompt": [300] * 50, "max_tokens": 200}


def _assert_refused(reply: Reply, limit: str) -> None:
    assert reply.status == 503
    assert reply.json["error"] == {
        "message": WORDS[limit],
        "type": "Service Unavailable",
        "param": None,
        "code": 503,
    }


@pytest.mark.parametrize("is_streamed", [True, False])
def test_no_more_samples_than_the_limit(is_streamed: bool) -> None:  # noqa: FBT001 # a parameter of the test
    """Each of the n samples counts; who is refused can come again when there is room."""

    async def main() -> None:
        async with serving(*FLAGS, "--max-num-queued-reqs", "3") as server:
            first = [asyncio.create_task(server.complete(**LONG)) for _ in range(2)]
            await asyncio.sleep(0.01)
            extra: dict[str, Any] = {"stream": is_streamed}
            _assert_refused(await server.complete(**LONG, **extra, n=2), "max_num_queued_reqs")
            messages = [{"role": "user", "content": "hi"}]
            refused = await server.chat(messages=messages, **extra, n=2)
            _assert_refused(refused, "max_num_queued_reqs")
            assert (await server.complete(prompt="hi", max_tokens=1, **extra)).status == 200
            assert [(await reply).status for reply in first] == [200, 200]
            assert (await server.complete(**LONG, **extra, n=3)).status == 200
            page = await server.metrics()
            refusals = "vllm:admission_rejections_total"
            assert page.total(refusals, reason="max_num_queued_reqs") == 2
            assert page.total(refusals, reason="max_num_queued_tokens") == 0
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()

    run_in_virtual_time(main())


def test_no_more_prompts_once_the_backlog_is_full() -> None:
    """Prompts count until their first token, whole; the request that fills the backlog still gets in."""

    async def main() -> None:
        async with serving(*FLAGS, "--max-num-queued-tokens", "100", "--prefill-base-seconds", "1") as server:
            first = [asyncio.create_task(server.complete(**LONG)) for _ in range(2)]
            await asyncio.sleep(0.01)
            _assert_refused(await server.complete(prompt="hi", max_tokens=1), "max_num_queued_tokens")
            await asyncio.sleep(2)
            assert (await server.complete(prompt="hi", max_tokens=1)).status == 200
            assert [(await reply).status for reply in first] == [200, 200]
            page = await server.metrics()
            assert page.total("vllm:admission_rejections_total", reason="max_num_queued_tokens") == 1

    run_in_virtual_time(main())


def test_each_prompt_of_a_request_has_to_get_in() -> None:
    """A request with more prompts than there is room for is refused, and those of its prompts that got in are given up."""

    async def main() -> None:
        async with serving(*FLAGS, "--max-num-queued-reqs", "3") as server:
            many: dict[str, Any] = {"prompt": ["a", "b", "c", "d"], "max_tokens": 5}
            _assert_refused(await server.complete(**many), "max_num_queued_reqs")
            stream = await server.complete(**many, stream=True)
            assert stream.events[0]["error"]["message"] == WORDS["max_num_queued_reqs"]
            assert stream.ends_with_done
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()
            assert (await server.complete(**many | {"prompt": ["a", "b", "c"]})).status == 200

    run_in_virtual_time(main())


def test_a_text_that_cannot_fit_is_refused_unread() -> None:
    """By its length in characters, in vLLM's words, unless it is to be truncated."""

    async def main() -> None:
        async with serving("--max-model-len", "64") as server:
            most = 64 * server.worker.settings.tokenizer.max_characters_per_token
            for excess, says in ((0, "input tokens"), (1, f"more than {most} characters")):
                reply = await server.complete(prompt="a" * (most + excess), max_tokens=1)
                assert reply.status == 400
                assert says in reply.json["error"]["message"]
            reply = await server.complete(prompt="a" * (most + 1), max_tokens=1, truncate_prompt_tokens=8)
            assert (reply.status, reply.json["usage"]["prompt_tokens"]) == (200, 8)

    run_in_virtual_time(main())
