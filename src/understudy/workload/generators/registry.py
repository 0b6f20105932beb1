"""The generators by name, and how a text such as `chat:requests=500,seed=7` becomes one."""

import msgspec

from understudy.errors import UsageError, unknown_name
from understudy.workload.fields import MAX_TOKENS, description
from understudy.workload.generators.chat import Chat
from understudy.workload.generators.parameters import CommonParameters, Generator
from understudy.workload.generators.rag import Rag
from understudy.workload.generators.system_prompts import SystemPrompts
from understudy.workload.generators.unshared import Unshared

_GENERATORS: dict[str, type[Chat | Rag | SystemPrompts | Unshared]] = {
    "chat": Chat,
    "rag": Rag,
    "system-prompts": SystemPrompts,
    "unshared": Unshared,
}


def known_generators() -> tuple[str, ...]:
    """Return the names of the generators, sorted."""
    return tuple(sorted(_GENERATORS))


def generator(text: str) -> Generator:
    """Return the generator that `NAME` or `NAME:PARAMETER=VALUE,...` stands for.

    Raises UsageError for an unknown name or parameter, a value out of bounds, and prompts above MAX_TOKENS.
    """
    name, _, parameters_text = text.partition(":")
    if name not in _GENERATORS:
        raise unknown_name("generator", name, _GENERATORS)
    parameters_type = _GENERATORS[name]
    made = msgspec.convert(_parameters(name, parameters_type, parameters_text), parameters_type, strict=False)
    if made.longest_prompt_tokens > MAX_TOKENS:
        raise UsageError(
            f"{text}: prompts may have {MAX_TOKENS:,} tokens, these {made.longest_prompt_tokens:,}"
        )
    return made


def _parameters(name: str, parameters_type: type[CommonParameters], text: str) -> dict[str, str]:
    types = {field.name: field.type for field in msgspec.structs.fields(parameters_type)}
    values: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        parameter, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"{name}: expected PARAMETER=VALUE, got {part!r}")
        if parameter not in types:
            raise unknown_name(f"parameter of {name}", parameter, types)
        if parameter in values:
            raise UsageError(f"{name}: {parameter} is given twice")
        try:
            msgspec.convert(value, types[parameter], strict=False)
        except msgspec.ValidationError:
            must_be = description(types[parameter])
            raise UsageError(f"{name}: {parameter} must be {must_be}, got {value!r}") from None
        values[parameter] = value
    return values
