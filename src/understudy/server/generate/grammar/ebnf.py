"""Reads grammars in EBNF as xgrammar and llama.cpp write it: `root ::= "a" [0-9]+ | other`."""

import re

from understudy.server.generate.grammar.expression import Expression, Literal, Rule, Rules
from understudy.server.generate.grammar.reader import (
    ExpressionReader,
    check_rules,
    grammar_error,
    tokenize_grammar,
    unescaped,
)
from understudy.server.generate.grammar.regex import parse_regex
from understudy.server.generate.work import Work

ROOT = "root"

_TOKENS = re.compile(
    r"""
      (?P<SPACE>\s+|\#[^\n]*)
    | (?P<DEFINE>::=)
    | (?P<STRING>"(?:\\.|[^"\\\n])*")
    | (?P<CLASS>\[(?:\\.|[^\]\\])*\])
    | (?P<REPEAT>\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9})?\s*)?\})
    | (?P<NAME>[A-Za-z_][\w.-]*)
    | (?P<PUNCTUATION>[()|*+?])
    """,
    re.VERBOSE,
)


def parse_ebnf(grammar: str, work: Work) -> tuple[Expression, Rules]:
    """Return the start and the rules of a grammar. Raises ConstraintError for what is not understood."""
    reader = ExpressionReader(
        tokenize_grammar(_TOKENS, grammar, work),
        {
            "STRING": lambda text: Literal(unescaped(text[1:-1])),
            "CLASS": lambda text: parse_regex(text, work),
            "NAME": Rule,
        },
    )
    rules: dict[str, Expression] = {}
    while reader.token.kind != "END":
        if not reader.is_definition:
            raise reader.unexpected()
        name, body = reader.definition()
        if name in rules:
            raise grammar_error(f"the rule {name!r} is defined twice")
        rules[name] = body
    check_rules(rules, ROOT, list(rules.values()))
    return rules[ROOT], rules
