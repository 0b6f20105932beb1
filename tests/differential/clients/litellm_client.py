"""LiteLLM as a client of a vLLM that it hosts: answers, streams with usage, its errors.

python -m tests.differential.clients.litellm_client http://127.0.0.1:8000
"""

import asyncio
import sys
from functools import partial
from typing import Any

import litellm  # type: ignore[import-not-found]  # installed where this runs
from tests.differential.clients.check import check, check_refused

MESSAGES = [{"role": "user", "content": "Say hello."}]


def main() -> None:
    """Run every check against the server at the URL that is the argument."""
    base = f"{sys.argv[1].rstrip('/')}/v1"
    options: dict[str, Any] = {"model": "hosted_vllm/m", "api_base": base, "max_tokens": 5, "num_retries": 0}
    done = litellm.completion(messages=MESSAGES, **options)
    check(
        "a chat has text and usage",
        holds=bool(done.choices[0].message.content) and done.usage.completion_tokens == 5,
    )
    check("it ends by length", holds=done.choices[0].finish_reason == "length")
    chunks = list(
        litellm.completion(messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **options)
    )
    whole = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    check(
        "a stream is put together again",
        holds=whole.usage.completion_tokens == 5 and bool(whole.choices[0].message.content),
    )
    several = asyncio.run(_at_once(options))
    check("ten asynchronous chats", holds=len({one.id for one in several}) == 10)
    text = litellm.text_completion(
        prompt="hello", **{**options, "model": "text-completion-openai/m", "api_key": "none"}
    )
    check("a completion has text", holds=bool(text.choices[0].text))
    for what, kind, changed in (
        ("an unknown model is not found", litellm.NotFoundError, {"model": "hosted_vllm/nope"}),
        ("a negative limit is a bad request", litellm.BadRequestError, {"max_tokens": -1}),
    ):
        asked = {**options, **changed}
        check_refused(what, kind, partial(litellm.completion, messages=MESSAGES, **asked))


async def _at_once(options: dict[str, Any]) -> list[Any]:
    return await asyncio.gather(*(litellm.acompletion(messages=MESSAGES, **options) for _ in range(10)))


main()
