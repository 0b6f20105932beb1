"""LangChain's OpenAI classes: invoke, batch, stream, usage, completions.

python -m tests.differential.clients.langchain_client http://127.0.0.1:8000
"""

import asyncio
import sys
from typing import Any

from langchain_openai import ChatOpenAI, OpenAI  # type: ignore[import-not-found]  # installed where this runs
from tests.differential.clients.check import check


def main() -> None:
    """Run every check against the server at the URL that is the argument."""
    options: dict[str, Any] = {
        "model": "m",
        "base_url": f"{sys.argv[1].rstrip('/')}/v1",
        "api_key": "none",
        "max_tokens": 5,
        "max_retries": 0,
    }
    chat = ChatOpenAI(**options, stream_usage=True)
    done = chat.invoke("Say hello.")
    check("a chat has text", holds=bool(done.content))
    check("it tells usage", holds=done.usage_metadata["output_tokens"] == 5)
    check("it tells the reason of its end", holds=done.response_metadata["finish_reason"] == "length")
    check("four chats at once", holds=len({one.id for one in chat.batch(["a", "b", "c", "d"])}) == 4)
    chunks = list(chat.stream("Say hello."))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    check(
        "a stream adds up to text and usage",
        holds=bool(whole.content) and whole.usage_metadata["output_tokens"] == 5,
    )
    check("an asynchronous chat has text", holds=bool(asyncio.run(chat.ainvoke("hello")).content))
    check("a completion has text", holds=bool(OpenAI(**options).invoke("hello")))


main()
