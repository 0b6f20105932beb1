"""Promises of comparing tokens with a worker's."""

import asyncio
from pathlib import Path

import pytest
from tests.gateway.fake_worker import Answer, says, working
from tests.server.serving import MODEL, serving

from understudy.gateway.kv_events.tokenizer_check import tokenizer_agrees
from understudy.gateway.worker_http import NoAnswerError, WorkerHttp, question_session
from understudy.tokenize import load_tokenizer

FLAGS = ("--max-model-len", "256")
BYTES = str(Path(__file__).parents[2] / "data" / "tokenizer" / "byte_level")
TEMPLATE = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
TEMPLATE_OF_PARTS = (
    "{% for message in messages %}{% for part in message.content %}{{ part.text }}{% endfor %}|{% endfor %}"
)


async def told(
    url: str, tokenizer: str | None = None, template: str | None = None, model: str | None = None
) -> str | None:
    """Return what a router with this tokenizer and template finds."""
    async with question_session() as session:
        return await tokenizer_agrees(WorkerHttp(url, session), load_tokenizer(tokenizer), template, model)


@pytest.mark.parametrize("template", [None, TEMPLATE, TEMPLATE_OF_PARTS])
@pytest.mark.parametrize("tokenizer", [None, BYTES])
def test_the_same_flags_agree(tokenizer: str | None, template: str | None) -> None:
    """Whatever tokenizer and template."""
    flags = (() if tokenizer is None else ("--tokenizer", tokenizer)) + (
        () if template is None else ("--chat-template", template)
    )

    async def main() -> None:
        async with serving(*FLAGS, *flags) as server:
            assert await told(server.url, tokenizer, template) is None
            assert await told(server.url, tokenizer, template, MODEL) is None

    asyncio.run(main())


def test_what_would_fit_is_named() -> None:
    """The flag for the tokenizer where a text differs, that for the template where only a conversation does."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            assert "--tokenizer must be the worker's" in str(await told(server.url, BYTES))
            sentence = await told(server.url, None, TEMPLATE)
            assert "--chat-template must be the worker's" in str(sentence)
            assert "\n" not in str(sentence)

    asyncio.run(main())


def test_a_template_that_cannot_be_rendered_here_is_told() -> None:
    """In one line."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            sentence = await told(server.url, None, "{{ raise_exception('no\nway') }}")
            assert sentence is not None
            assert "cannot render" in sentence
            assert "\n" not in sentence

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff"),
    ],
)
def test_a_worker_that_does_not_tell_is_believed(answer: Answer) -> None:
    """It may have no such route; and what is no answer tells nothing."""

    async def main() -> None:
        async with working(answer) as (worker,):
            assert await told(worker.url) is None

    asyncio.run(main())


def test_who_cannot_be_asked_is_no_answer() -> None:
    """It may be asked later."""

    async def main() -> None:
        async with working(says(b"", closes=True)) as (worker,):
            with pytest.raises(NoAnswerError, match="does not answer /tokenize"):
                await told(worker.url)

    asyncio.run(main())
