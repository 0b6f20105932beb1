"""The OpenAI SDK: models, completions, chats, streams, the stream helper, parsing, tools, errors; sync and async.

python -m tests.differential.clients.openai_sdk http://127.0.0.1:8000
"""

import asyncio
import sys
from typing import Any, Literal

import openai  # type: ignore[import-not-found]  # installed where this runs
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.differential.clients.check import check, check_refused

SAY_HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
]
OPTIONS: Any = {"model": "m", "max_tokens": 5}


class Light(BaseModel):
    """What a traffic light shows; every answer of this form is short."""

    color: Literal["red", "green"]


def completions(client: OpenAI) -> None:
    """Check models and completions."""
    check("a model is listed", holds="m" in [model.id for model in client.models.list()])
    done = client.completions.create(prompt="hello", **OPTIONS)
    check(
        "a completion has text, a finish reason and usage",
        holds=bool(done.choices[0].text) and done.usage is not None,
    )
    check("it ends by length", holds=done.choices[0].finish_reason == "length")
    many = client.completions.create(prompt=["a", "b"], n=2, **OPTIONS)
    check("two prompts, two answers each", holds=[choice.index for choice in many.choices] == [0, 1, 2, 3])
    stream = client.completions.create(
        prompt="hello", stream=True, stream_options={"include_usage": True}, **OPTIONS
    )
    *chunks, last = list(stream)
    check(
        "a completion streams and ends with usage",
        holds=len(chunks) > 1 and last.usage is not None and not last.choices,
    )
    scored = client.completions.create(prompt="hello", logprobs=2, **OPTIONS).choices[0].logprobs
    check(
        "logprobs of each token",
        holds=scored is not None and len(scored.tokens or []) == OPTIONS["max_tokens"],
    )


def chats(client: OpenAI) -> None:
    """Check chats, streams of them and the helper for streams."""
    done = client.chat.completions.create(messages=SAY_HELLO, **OPTIONS)
    check("a chat answers as the assistant", holds=done.choices[0].message.role == "assistant")
    check(
        "usage adds up",
        holds=done.usage is not None and done.usage.total_tokens == done.usage.prompt_tokens + 5,
    )
    stream = client.chat.completions.create(messages=SAY_HELLO, stream=True, n=2, **OPTIONS)
    finished = [choice.index for chunk in stream for choice in chunk.choices if choice.finish_reason]
    check("both choices of a stream finish", holds=sorted(finished) == [0, 1])
    raw = client.chat.completions.with_raw_response.create(messages=SAY_HELLO, **OPTIONS)
    check("the raw answer is JSON", holds=raw.headers["content-type"] == "application/json")
    with client.chat.completions.stream(
        messages=SAY_HELLO, model="m", max_tokens=64, response_format=Light
    ) as events:
        kinds = {event.type for event in events}
    check(
        "the stream helper tells chunks, content and its end",
        holds={"chunk", "content.delta", "content.done"} <= kinds,
    )


def parsing(client: OpenAI) -> None:
    """Check answers of a given form."""
    done = client.chat.completions.parse(messages=SAY_HELLO, model="m", max_tokens=64, response_format=Light)
    check("an answer is parsed", holds=isinstance(done.choices[0].message.parsed, Light))
    check_refused(
        "an answer that is cut off is told so",
        openai.LengthFinishReasonError,
        lambda: client.chat.completions.parse(
            messages=SAY_HELLO, model="m", max_tokens=1, response_format=Light
        ),
    )


def tools(client: OpenAI) -> None:
    """Check tools, for a server without a parser of tool calls."""
    done = client.chat.completions.create(messages=SAY_HELLO, tools=TOOLS, tool_choice="none", **OPTIONS)
    check("tools that are not to be used are accepted", holds=not done.choices[0].message.tool_calls)
    check_refused(
        "the flags that tools need are named",
        openai.BadRequestError,
        lambda: client.chat.completions.create(messages=SAY_HELLO, tools=TOOLS, **OPTIONS),
        "--enable-auto-tool-choice",
    )


def errors(client: OpenAI) -> None:
    """Check that errors arrive as the SDK's own, with the server's words."""
    ask = client.completions.create
    check_refused(
        "an unknown model is not found",
        openai.NotFoundError,
        lambda: ask(model="nope", prompt="a"),
        "The model `nope` does not exist.",
    )
    check_refused(
        "a negative limit is a bad request",
        openai.BadRequestError,
        lambda: ask(model="m", prompt="a", max_tokens=-1),
        "max_tokens must be at least 1, got -1.",
    )
    check_refused(
        "there are no embeddings",
        openai.NotFoundError,
        lambda: client.embeddings.create(model="m", input="a"),
    )


def responses(client: OpenAI) -> None:
    """Check the Responses API."""
    done = client.responses.create(model="m", input="hello", max_output_tokens=5)
    check(
        "a response is incomplete for its limit", holds=done.status == "incomplete" and bool(done.output_text)
    )
    kinds = [
        event.type
        for event in client.responses.create(model="m", input="hello", max_output_tokens=5, stream=True)
    ]
    check(
        "a response streams from creation to its end",
        holds=(kinds[0], kinds[-1]) == ("response.created", "response.incomplete"),
    )


async def asynchronous(url: str) -> None:
    """Check the asynchronous client, ten at once."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        asked = (client.chat.completions.create(messages=SAY_HELLO, **OPTIONS) for _ in range(10))
        done = await asyncio.gather(*asked)
        check("ten chats at once", holds=len({one.id for one in done}) == 10)
        stream = await client.chat.completions.create(messages=SAY_HELLO, stream=True, **OPTIONS)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        check("an asynchronous stream has text", holds=bool(text))


def main() -> None:
    """Run every check against the server at the URL that is the argument."""
    url = sys.argv[1].rstrip("/")
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    for checks in (completions, chats, parsing, tools, errors, responses):
        checks(client)
    asyncio.run(asynchronous(url))


main()
