"""Chat templates in Jinja as Hugging Face renders them: the same sandbox, options, filters and functions.

A template may come with a request, so it runs in a sandbox and its output is bounded. Its time is not: like vLLM,
let only trusted callers bring their own.
(transformers 5.20: utils/chat_template_utils.py; vLLM 0.33: renderers/hf.py)
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from understudy.errors import InputError
from understudy.tokenize.chat import content_to_continue
from understudy.tokenize.tokenizer import Message

MOST_CHARACTERS = 1 << 24
"""Of a rendered prompt: several times what the longest context of a model holds."""

_END_OF_MESSAGE = "CONTINUE_FINAL_MESSAGE_TAG "


class _GenerationTag(Extension):
    """`{% generation %}` marks what the assistant said, which changes nothing in the prompt."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a set of the class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - as above
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - as above
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - Hugging Face gives local time


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return the sandbox that compiles and runs templates."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    sandbox.filters["tojson"] = _to_json
    functions: dict[str, Callable[..., Any]] = {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    sandbox.globals.update(functions)
    return sandbox


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    return environment().from_string(template)


def check(template: str) -> None:
    """Raise InputError if the template has a fault of syntax."""
    try:
        _compiled(template)
    except TemplateError as error:
        raise InputError(str(error)) from error


def render(template: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    """Return the prompt; raises InputError with the template's own reason, as vLLM answers."""
    return _rendered(template, _known_roles(template, messages), variables)


def _rendered(template: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    chunks: list[str] = []
    num_characters = 0
    try:
        for chunk in _compiled(template).generate({**variables, "messages": messages}):
            num_characters += len(chunk)
            if num_characters > MOST_CHARACTERS:
                break
            chunks.append(chunk)
    except Exception as error:  # a template is a program of the user's, so it may raise anything
        raise InputError(str(error)) from error
    if num_characters > MOST_CHARACTERS:
        raise InputError(f"the chat template gave more than {MOST_CHARACTERS} characters")
    return "".join(chunks)


def render_continued(template: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    """Return the prompt up to the end of the last message's content, which the model shall continue."""
    *earlier, last = _known_roles(template, messages)
    content = content_to_continue(last)
    if "content" not in template:
        raise InputError(
            'continue_final_message is set to "content" but this is not an accepted field in the chat_template'
        )
    marked, final_text = _with_end_marked(last, content)
    prompt = _rendered(template, [*earlier, marked], variables)
    end = prompt.rfind(_END_OF_MESSAGE.strip())
    if end < 0 or final_text.strip() not in prompt:
        raise InputError(
            "continue_final_message is set but the final message does not appear in the chat after applying the "
            "chat template! This can happen if the chat template deletes portions of the final message. Please "
            "verify the chat template and final message in your chat to ensure they are compatible."
            f"Final message to continue: {final_text.strip()}\nRendered chat:\n{prompt}"
        )
    keeps_spaces = prompt.startswith(_END_OF_MESSAGE, end)
    return prompt[:end] if keeps_spaces else prompt[:end].rstrip()


def _with_end_marked(message: Message, content: str | list[Any]) -> tuple[Message, str]:
    if isinstance(content, str):
        return {**message, "content": content + _END_OF_MESSAGE}, content
    for index in reversed(range(len(content))):
        if "text" in content[index]:
            text: str = content[index]["text"]
            part = {**content[index], "text": text + _END_OF_MESSAGE}
            return {**message, "content": [*content[:index], part, *content[index + 1 :]]}, text
    raise InputError(
        "continue_final_message is set but we could not find any text to continue in the final message!"
    )


def _known_roles(template: str, messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages, for a template without developers with those as the one system message at the start."""
    knows_developers = '"developer"' in template or "'developer'" in template
    if knows_developers or all(message["role"] != "developer" for message in messages):
        return messages
    renamed = [
        {**{key: value for key, value in message.items() if key != "tools"}, "role": "system"}
        if message["role"] == "developer"
        else message
        for message in messages
    ]
    system = [message for message in renamed if message["role"] == "system"]
    if len(system) == 1 and renamed[0] is system[0]:
        return renamed
    texts = [_text_of(message.get("content") or "") for message in system]
    merged = {"role": "system", "content": "\n\n".join(text for text in texts if text)}
    return [merged, *(message for message in renamed if message["role"] != "system")]


def _text_of(content: str | Sequence[Any]) -> str:
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, str) else part.get("text") for part in content]
    return "\n".join(part for part in parts if part is not None)
