"""From a conversation to a prompt: by a Jinja template, or by the plain form of the offline tokenizer."""

import errno
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from understudy.errors import InputError
from understudy.tokenize.tokenizer import ContentFormat, Message


def load_chat_template(source: str) -> str:
    """Return the Jinja template in a file, or that is given itself. Raises InputError for one with a fault of syntax."""
    text = _read_if_file(source)
    try:
        _template_module("chat_template").check(text)
    except InputError as error:
        raise InputError(f"--chat-template cannot be used: {' '.join(str(error).split())}") from error
    return text


def _read_if_file(source: str) -> str:
    try:
        path = Path(source)
        if not path.exists():
            return source
        if not (path.is_file() or path.is_fifo()):
            raise InputError(f"--chat-template {source} is no regular file")
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(f"--chat-template {source} is no text in UTF-8") from error
        return source
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return source
        raise InputError(f"cannot read {source}: {error.strerror}") from error


def check_conversation(
    messages: Sequence[Message], *, add_generation_prompt: bool, continue_final_message: bool
) -> None:
    """Raise InputError, in the words of vLLM's answer, for what no template can render."""
    if not messages:
        raise InputError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    if continue_final_message and add_generation_prompt:
        raise InputError(
            "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when "
            "you want the model to continue the final message, and add_generation_prompt when you want to add a "
            "header that will prompt it to start a new assistant message instead."
        )


def content_to_continue(message: Message) -> Any:
    """Return the content of a final message. Raises InputError if it has none."""
    content = message.get("content")
    if content is None:
        raise InputError('continue_final_message is set but the final message has no "content" to continue!')
    return content


def templated_content_format(template: str) -> ContentFormat:
    """Return how a Jinja template wants the content of messages. Raises InputError without jinja2."""
    found: ContentFormat = _template_module("content_format").content_format(template)
    return found


def _template_module(name: str) -> Any:
    try:
        return import_module(f"understudy.tokenize.{name}")
    except ImportError as error:
        raise InputError(
            "chat templates need the jinja2 package: pip install 'understudy[tokenizers]'"
        ) from error


def templated_prompt(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    continue_final_message: bool,
    tools: Sequence[Mapping[str, Any]] | None,
    special_tokens: Mapping[str, str],
    kwargs: Mapping[str, Any] | None,
) -> str:
    """Return the prompt by a Jinja template; `kwargs` come before `special_tokens`. Raises InputError."""
    chat_template = _template_module("chat_template")
    chat_template.check(template)
    check_conversation(
        messages,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=continue_final_message,
    )
    variables = {
        **special_tokens,
        "documents": None,
        "tools": None,
        **(kwargs or {}),
        **({} if tools is None else {"tools": tools}),
        "add_generation_prompt": add_generation_prompt,
    }
    render = chat_template.render_continued if continue_final_message else chat_template.render
    prompt: str = render(template, messages, variables)
    return prompt


def plain_prompt(
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    continue_final_message: bool,
    tools: Sequence[Mapping[str, Any]] | None,
) -> str:
    """Return a prompt with a tag a role, one message a line: `<|user|> Hello`. Raises InputError.

    Content is stripped and follows a space: so the next turn repeats the tokens of an answer that begins with a
    space, whether or not the client keeps that space.
    """
    check_conversation(
        messages,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=continue_final_message,
    )
    if continue_final_message:
        content_to_continue(messages[-1])
    turns = [f"<|tools|> {_json(tools)}"] if tools else []
    turns += [f"<|{message['role']}|> {_content(message)}" for message in messages]
    end = "\n<|assistant|>" if add_generation_prompt else "" if continue_final_message else "\n"
    return "\n".join(turns) + end


def _content(message: Message) -> str:
    content = message.get("content") or ""
    parts = [content] if isinstance(content, str) else [_part(part) for part in content]
    if calls := message.get("tool_calls"):
        parts.append(_json(calls))
    return "\n".join(parts).strip()


def _part(part: str | Mapping[str, Any]) -> str:
    if isinstance(part, str):
        return part
    return str(part["text"]) if "text" in part else f"<|{part.get('type')}|>"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
