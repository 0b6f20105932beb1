"""Structured outputs: a text that satisfies what vLLM 0.33 takes as `structured_outputs` or `response_format`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from understudy.server.generate.constraint_error import ConstraintError, malformed_is_refused
from understudy.server.generate.grammar.ebnf import parse_ebnf
from understudy.server.generate.grammar.lark import parse_lark
from understudy.server.generate.grammar.regex import parse_regex
from understudy.server.generate.grammar.regex_text import write_regex
from understudy.server.generate.grammar.write import TextWriter
from understudy.server.generate.json_text import json_text
from understudy.server.generate.schema import read_schema, write_value
from understudy.server.generate.structural_tag import structural_tag_text
from understudy.server.generate.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One kind of constraint, and options of its form: the fields of vLLM's StructuredOutputsParams.

    `whitespace_pattern` and `disable_additional_properties` are accepted and change nothing: what is written has one space after
    a comma or colon, and no properties that a schema does not name or demand.
    """

    json: str | Mapping[str, Any] | bool | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None


_OPTIONS = frozenset({"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"})
_KINDS = tuple(field.name for field in fields(Constraint) if field.name not in _OPTIONS)


def text_for(constraint: Constraint, rng: Random, work: Work | None = None) -> str:
    """Return a text that satisfies a constraint.

    Raises ConstraintError where vLLM refuses the constraint, where it is not understood, where no text is found for it, or
    where it takes more than MAX_WORK_UNITS, which are added to `work`. No expression of a request is ever run.
    """
    work = work or Work()
    given = [kind for kind in _KINDS if getattr(constraint, kind) is not None]
    if len(given) != 1:
        problem = "but multiple are specified" if given else "but none are specified"
        must = "can only use" if given else "must use"
        raise ConstraintError(f"You {must} one kind of structured outputs constraint {problem}: {given}")
    writers: dict[str, Callable[[Any], str]] = {
        "json": lambda schema: _json_text(schema, constraint, rng, work),
        "regex": lambda pattern: _regex_text(pattern, rng, work),
        "choice": lambda choices: _choice(choices, rng),
        "grammar": lambda grammar: grammar_text(grammar, rng, work),
        "json_object": lambda _yes: _json_text({"type": "object"}, constraint, rng, work),
        "structural_tag": lambda tag: structural_tag_text(tag, rng, work, grammar_text),
    }
    kind = given[0]
    value = getattr(constraint, kind)
    if isinstance(value, str) and kind != "regex" and not value.strip():
        raise ConstraintError(f"structured_outputs.{kind} cannot be an empty string")
    if value is False and kind == "json_object":
        raise ConstraintError(
            "structured_outputs.json_object must be True if set; omit structured_outputs to disable structured outputs"
        )
    with malformed_is_refused(f"structured_outputs.{kind}"):
        return writers[kind](value)


def grammar_text(grammar: str, rng: Random, work: Work) -> str:
    """Return a text of a grammar: EBNF if any of its lines defines a rule by `::=`, else Lark."""
    start, rules = parse_ebnf(grammar, work) if _is_ebnf(grammar) else parse_lark(grammar, work)
    return TextWriter(start, rules, work).text(rng)


def _is_ebnf(grammar: str) -> bool:
    defining = (line for line in grammar.split("\n") if "::=" in line)
    return any("::=" in line.partition("#")[0].partition("//")[0] for line in defining)


def _json_text(schema: object, constraint: Constraint, rng: Random, work: Work) -> str:
    value = write_value(read_schema(schema, work), rng)
    return json_text(value, is_compact=constraint.disable_any_whitespace)


def _regex_text(pattern: str, rng: Random, work: Work) -> str:
    if "\0" in pattern:
        raise ConstraintError("structured_outputs.regex must not contain a NUL character ('\\x00')")
    return write_regex(parse_regex(pattern, work), rng, work)


def _choice(choices: Sequence[str], rng: Random) -> str:
    if not choices:
        raise ConstraintError(f"Choice '{list(choices)}' cannot be an empty list")
    return rng.choice(choices)
