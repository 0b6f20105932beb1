"""Renders and tokenizes prompts, long ones in a thread, so that steps are not held up."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.errors import InputError
from understudy.server.context import ServerContext
from understudy.tokenize import Message
from understudy.wire.errors import ApiError

INLINE_CHARACTERS = 4096
"""A text of up to so many characters is tokenized at once; that takes well below a millisecond."""


async def encode_text(context: ServerContext, text: str, *, add_special_tokens: bool) -> list[int]:
    """Return the token ids of a text; raises ApiError for one that is no Unicode."""

    def encode() -> list[int]:
        return context.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    try:
        if len(text) <= INLINE_CHARACTERS:
            return encode()
        return await asyncio.get_running_loop().run_in_executor(None, encode)
    except InputError as error:
        raise ApiError(str(error)) from None


def last_user_text(messages: Sequence[Message]) -> str | None:
    """Return what the user said last, None where no user said anything."""
    last = next((message for message in reversed(messages) if message["role"] == "user"), None)
    return None if last is None else str(last["content"])


def render_chat(
    context: ServerContext,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Return the prompt of a conversation, by the request's template or the server's; raises ApiError."""
    defaults: Mapping[str, Any] = context.arguments["default_chat_template_kwargs"] or {}
    try:
        return context.tokenizer.chat_prompt(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            chat_template=chat_template or context.chat_template,
            kwargs={**defaults, **(kwargs or {})},
        )
    except InputError as error:
        raise ApiError(str(error)) from None
