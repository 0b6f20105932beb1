"""Reads grammars in Lark's syntax: `start: "a" /[0-9]+/ | other`, with its common terminals."""

import re

from understudy.server.generate.grammar.expression import Choice, Expression, Literal, Rule, Rules, Sequence
from understudy.server.generate.grammar.reader import (
    ExpressionReader,
    Token,
    check_rules,
    grammar_error,
    tokenize_grammar,
    unescaped,
)
from understudy.server.generate.grammar.regex import parse_regex
from understudy.server.generate.work import Work

START = "start"

_UNITS_OF_A_LETTER = 2

_TOKENS = re.compile(
    r"""
      (?P<SPACE>\s+|//[^\n]*|\#[^\n]*|->[ \t]*\w+|(?m:^)[!?]{1,2}(?=\w)|\.-?\d+(?=\s*:))
    | (?P<DIRECTIVE>%[^\n]*)
    | (?P<STRING>"(?:\\.|[^"\\\n])*"i?)
    | (?P<REGEX>/(?:\\.|[^/\\\n])+/[imslux]*)
    | (?P<REPEAT>\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9})?\s*)?\}|~\s*\d{1,9}(?:\s*\.\.\s*\d{1,9})?)
    | (?P<RANGE>\.\.)
    | (?P<DEFINE>:)
    | (?P<NAME>[A-Za-z_]\w*)
    | (?P<PUNCTUATION>[()\[\]|*+?])
    """,
    re.VERBOSE,
)

_COMMON = {
    "DIGIT": r"[0-9]",
    "HEXDIGIT": r"[a-fA-F0-9]",
    "INT": r"[0-9]+",
    "SIGNED_INT": r"[+-]?[0-9]+",
    "DECIMAL": r"[0-9]+\.[0-9]*|\.[0-9]+",
    "FLOAT": r"[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]+|[0-9]+\.[0-9]*|\.[0-9]+",
    "SIGNED_FLOAT": r"[+-]?([0-9]+(\.[0-9]+)?[eE][+-]?[0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)",
    "NUMBER": r"[0-9]+(\.[0-9]*)?",
    "SIGNED_NUMBER": r"[+-]?[0-9]+(\.[0-9]*)?",
    "ESCAPED_STRING": r'"[^"\\\n]*"',
    "LCASE_LETTER": r"[a-z]",
    "UCASE_LETTER": r"[A-Z]",
    "LETTER": r"[A-Za-z]",
    "WORD": r"[A-Za-z]+",
    "CNAME": r"[A-Za-z_][A-Za-z0-9_]*",
    "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+",
    "CR": r"\r",
    "LF": r"\n",
    "NEWLINE": r"(\r?\n)+",
}
"""Terminals of Lark's module `common`, each by an expression for a part of its texts."""

_IMPORT = re.compile(
    r"%import\s+common(?:\.(?P<one>\w+)(?:\s*->\s*(?P<alias>\w+))?|\s*\((?P<many>[\w\s,]+)\))\s*$"
)


def parse_lark(grammar: str, work: Work) -> tuple[Expression, Rules]:
    """Return the start and the rules of a grammar. What it ignores is never written.

    Raises ConstraintError for what is not understood: templates, inline JSON schemas, special tokens, other imports.
    """
    reader = ExpressionReader(
        tokenize_grammar(_TOKENS, grammar, work),
        {
            "STRING": lambda text: _string(text, work),
            "REGEX": lambda text: _regex(text, work),
            "CLASS": lambda text: parse_regex(text, work),
            "NAME": Rule,
        },
    )
    rules: dict[str, Expression] = {}
    while reader.token.kind != "END":
        if reader.token.kind == "DIRECTIVE":
            rules.update(_imported(reader.take(), work))
        elif reader.is_definition:
            name, body = reader.definition()
            if name in rules:
                raise grammar_error(f"the rule {name!r} is defined twice")
            rules[name] = body
        else:
            raise reader.unexpected()
    check_rules(rules, START, list(rules.values()))
    return rules[START], rules


def _string(text: str, work: Work) -> Expression:
    literal = unescaped(text.removesuffix("i")[1:-1])
    if not text.endswith("i"):
        return Literal(literal)
    work.spend(_UNITS_OF_A_LETTER * len(literal))
    return Sequence(tuple(Choice((Literal(letter.lower()), Literal(letter.upper()))) for letter in literal))


def _regex(text: str, work: Work) -> Expression:
    pattern, _, flags = text[1:].rpartition("/")
    if "x" in flags:
        raise grammar_error("the flag x of a regular expression is not supported")
    return parse_regex(f"(?i:{pattern})" if "i" in flags else pattern, work)


def _imported(directive: Token, work: Work) -> Rules:
    """Return the terminals that a directive imports; what is ignored needs no rule."""
    text = re.sub(r"//.*", "", directive.text).strip()
    if text.startswith("%ignore"):
        return {}
    found = _IMPORT.match(text)
    if found is None:
        raise grammar_error(f"line {directive.line}: {text[:40]!r} is not supported")
    names = re.findall(r"\w+", found["many"] or found["one"])
    unknown = [name for name in names if name not in _COMMON]
    if unknown:
        raise grammar_error(f"line {directive.line}: there is no common.{unknown[0]}")
    return {found["alias"] or name: parse_regex(_COMMON[name], work) for name in dict.fromkeys(names)}
