"""From the messages of a request to the text of its prompt."""

from collections.abc import Mapping
from typing import Any

from understudy.server.context import ServerContext
from understudy.server.prompts import render_chat
from understudy.wire.chat import ChatRequest
from understudy.wire.conversation import check_continuation, conversation
from understudy.wire.messages import Conversation
from understudy.wire.tokenization import TokenizeChatRequest


def rendered(
    context: ServerContext,
    wanted: ChatRequest | TokenizeChatRequest,
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[Conversation, str]:
    """Return the conversation, and its prompt with these arguments of the template; raises ApiError."""
    messages = conversation(wanted.messages, context.limits)
    check_continuation(
        continue_final_message=wanted.continue_final_message,
        add_generation_prompt=wanted.add_generation_prompt,
    )
    text = render_chat(
        context,
        messages,
        add_generation_prompt=wanted.add_generation_prompt,
        continue_final_message=wanted.continue_final_message,
        tools=None if wanted.tools is None else [tool.template_fields for tool in wanted.tools],
        chat_template=wanted.chat_template,
        kwargs={**(wanted.chat_template_kwargs or {}), **(kwargs or {})},
    )
    return messages, text
