"""Whether a chat template wants a message's content as one text or as a list of parts, by vLLM's rule.

A template that loops over the content of a message takes parts (`openai`), any other takes text (`string`). Names
are followed through assignments, namespaces and the arguments of macros.
(vllm/renderers/hf.py, 0.33.0)
"""

from collections.abc import Iterator
from functools import lru_cache

from jinja2 import TemplateError, nodes

from understudy.tokenize.chat_template import environment
from understudy.tokenize.tokenizer import ContentFormat


@lru_cache(maxsize=32)
def content_format(template: str) -> ContentFormat:
    """Return the format for a template; one that does not parse takes text."""
    try:
        root = environment().parse(template)
    except TemplateError:
        return "string"
    messages = {name for alias in _aliases(root, "messages") for name in _loop_names(root, alias)}
    macro_loops = {id(loop) for macro in root.find_all(nodes.Macro) for loop in macro.find_all(nodes.For)}
    loops = list(root.find_all(nodes.For))
    takes_parts = (
        any(_reads(loop.iter, message, "content") for loop in loops for message in messages)
        or any(_is_name(loop.iter, "content") for loop in loops if id(loop) not in macro_loops)
        or any(_loops_over_content(root, macro, messages) for macro in root.find_all(nodes.Macro))
    )
    return "openai" if takes_parts else "string"


def _aliases(root: nodes.Template, name: str) -> list[str]:
    """Return the name and all that are assigned from it, also as an attribute of a namespace."""
    names = [name]
    for known in names:  # grows while it is read
        for assign in root.find_all(nodes.Assign):
            names += [alias for alias in _assigned(assign, known) if alias not in names]
    return names


def _assigned(assign: nodes.Assign, name: str) -> Iterator[str]:
    target, value = assign.target, assign.node
    if _reads(value, name):
        dotted = _dotted(target)
        if dotted is not None:
            yield dotted
    elif (
        isinstance(target, nodes.Name) and isinstance(value, nodes.Call) and _is_name(value.node, "namespace")
    ):
        yield from (f"{target.name}.{given.key}" for given in value.kwargs if _reads(given.value, name))


def _dotted(target: nodes.Node) -> str | None:
    if isinstance(target, nodes.NSRef):
        return f"{target.name}.{target.attr}"
    return target.name if isinstance(target, nodes.Name) else None


def _loop_names(root: nodes.Template, name: str) -> Iterator[str]:
    for loop in root.find_all(nodes.For):
        if isinstance(loop.target, nodes.Name) and _reads(loop.iter, name):
            yield loop.target.name


def _loops_over_content(root: nodes.Template, macro: nodes.Macro, messages: set[str]) -> bool:
    """Tell whether a macro loops over a parameter that a call gives the content of a message."""
    given: set[str] = set()
    for call in root.find_all(nodes.Call):
        if not _is_name(call.node, macro.name):
            continue
        arguments = [
            (macro.args[index].name, value) for index, value in enumerate(call.args[: len(macro.args)])
        ]
        arguments += [(named.key, named.value) for named in call.kwargs]
        given |= {
            parameter
            for parameter, value in arguments
            if any(_reads(value, message, "content") for message in messages)
        }
    parameters = given & {argument.name for argument in macro.args}
    return any(
        _is_name(loop.iter, parameter) for loop in macro.find_all(nodes.For) for parameter in parameters
    )


def _reads(node: nodes.Node | None, name: str, key: str | None = None) -> bool:
    """Tell whether an expression is the variable (or its item `key`), filtered, tested or sliced."""
    if isinstance(node, nodes.Filter | nodes.Test):
        return _reads(node.node, name, key)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _reads(node.node, name, key)
    if key is None:
        return _is_variable(node, name)
    if isinstance(node, nodes.Getitem):
        is_key = isinstance(node.arg, nodes.Const) and node.arg.value == key
        return is_key and _is_variable(node.node, name)
    return isinstance(node, nodes.Getattr) and node.attr == key and _is_variable(node.node, name)


def _is_variable(node: nodes.Node | None, name: str) -> bool:
    if isinstance(node, nodes.Getattr):
        before, _, attribute = name.rpartition(".")
        return bool(before) and node.attr == attribute and _is_variable(node.node, before)
    return _is_name(node, name)


def _is_name(node: nodes.Node | None, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name
