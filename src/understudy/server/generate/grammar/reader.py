"""What EBNF and Lark have in common: tokens, and expressions of alternatives, sequences and repetitions."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.expression import (
    Choice,
    Expression,
    Literal,
    Repeat,
    Rule,
    Rules,
    Sequence,
)
from understudy.server.generate.work import Work

MAX_GRAMMAR_CHARACTERS = 65_536
MAX_GRAMMAR_NESTING = 64

_UNITS_OF_A_TOKEN = 2

_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "0": "\0"}

_TIMES = {"?": (0, 1), "*": (0, None), "+": (1, None)}


class Token(NamedTuple):
    """A piece of a grammar: what kind, as written, and on which line."""

    kind: str
    text: str
    line: int


def grammar_error(reason: str) -> ConstraintError:
    """Return the error for a grammar that cannot be read."""
    return ConstraintError(f"Invalid grammar specification: {reason}")


def tokenize_grammar(pattern: re.Pattern[str], grammar: str, work: Work) -> Iterator[Token]:
    """Yield the tokens of a grammar; `pattern` names their kinds, and SPACE what counts for nothing."""
    if len(grammar) > MAX_GRAMMAR_CHARACTERS:
        raise grammar_error(f"it has {len(grammar):,} characters, more than {MAX_GRAMMAR_CHARACTERS:,}")
    position = 0
    line = 1
    while position < len(grammar):
        found = pattern.match(grammar, position)
        if found is None or found.lastgroup is None:
            raise grammar_error(f"line {line}: {grammar[position : position + 20]!r} is not understood")
        work.spend(_UNITS_OF_A_TOKEN)
        if found.lastgroup != "SPACE":
            yield Token(found.lastgroup, found[0], line)
        line += found[0].count("\n")
        position = found.end()


def unescaped(text: str) -> str:
    """Return a text with its escapes resolved."""
    return _ESCAPE.sub(_resolved, text)


def _resolved(found: re.Match[str]) -> str:
    escape = found[1]
    if len(escape) == 1:
        return _ESCAPED.get(escape, escape)
    code_point = int(escape[1:], 16)
    if code_point > 0x10FFFF or 0xD800 <= code_point < 0xE000:
        raise grammar_error(f"\\{escape} is no character")
    return chr(code_point)


class ExpressionReader:
    """Reads expressions from tokens. `atoms` turns a token of a kind into what it stands for."""

    def __init__(self, tokens: Iterator[Token], atoms: Mapping[str, Callable[[str], Expression]]) -> None:
        self._tokens = [*tokens, Token("END", "", 0), Token("END", "", 0)]
        self._at = 0
        self._atoms = atoms
        self._read: dict[tuple[str, str], Expression] = {}
        self._nesting = 0

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._at]

    @property
    def is_definition(self) -> bool:
        """Whether the definition of a rule comes next."""
        return self.token.kind == "NAME" and self._tokens[self._at + 1].kind == "DEFINE"

    def take(self) -> Token:
        """Return the next token and go on."""
        token = self.token
        self._at += token.kind != "END"
        return token

    def definition(self) -> tuple[str, Expression]:
        """Return the name of a rule and its body."""
        name = self.take().text
        self.take()
        return name, self.alternatives()

    def alternatives(self) -> Expression:
        """Return an expression, up to what cannot belong to it."""
        options = [self._sequence()]
        while self.token.text == "|":
            self.take()
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def unexpected(self) -> ConstraintError:
        """Return the error for the next token."""
        token = self.token
        what = "the end" if token.kind == "END" else f"line {token.line}: {token.text!r}"
        return grammar_error(f"{what} is not expected here")

    def _sequence(self) -> Expression:
        parts: list[Expression] = []
        while not self.is_definition and (self.token.kind in self._atoms or self.token.text in {"(", "["}):
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _atom(self) -> Expression:
        token = self.take()
        if token.kind in self._atoms:
            return self._ranged(token) if self.token.kind == "RANGE" else self._of(token)
        self._nesting += 1
        if self._nesting > MAX_GRAMMAR_NESTING:
            raise grammar_error(f"groups nest more than {MAX_GRAMMAR_NESTING} deep")
        inner = self.alternatives()
        if self.token.text != {"(": ")", "[": "]"}[token.text]:
            raise self.unexpected()
        self.take()
        self._nesting -= 1
        return inner if token.text == "(" else Repeat(inner, 0, 1)

    def _of(self, token: Token) -> Expression:
        """Return what a token stands for, the same for the same text."""
        key = (token.kind, token.text)
        if key not in self._read:
            self._read[key] = self._atoms[token.kind](token.text)
        return self._read[key]

    def _ranged(self, first: Token) -> Expression:
        self.take()
        ends = (self._atoms[first.kind](first.text), self._atoms.get(self.token.kind, Rule)(self.take().text))
        texts = [end.text for end in ends if isinstance(end, Literal) and len(end.text) == 1]
        if len(texts) < len(ends) or texts[0] > texts[1]:
            raise grammar_error(f"line {first.line}: a range goes from one character to a later one")
        return self._atoms["CLASS"](f"[{re.escape(texts[0])}-{re.escape(texts[1])}]")

    def _repeated(self, part: Expression) -> Expression:
        while True:
            token = self.token
            if token.text in _TIMES:
                lowest, highest = _TIMES[token.text]
            elif token.kind == "REPEAT":
                lowest, highest = _bounds(token)
            else:
                return part
            self.take()
            part = Repeat(part, lowest, highest)


def _bounds(token: Token) -> tuple[int, int | None]:
    numbers = re.findall(r"\d+", token.text)
    lowest = int(numbers[0])
    highest = int(numbers[1]) if len(numbers) > 1 else None if "," in token.text else lowest
    if highest is not None and highest < lowest:
        raise grammar_error(f"line {token.line}: {token.text} has its bounds the wrong way round")
    return lowest, highest


def check_rules(rules: Rules, start: str, bodies: list[Expression]) -> None:
    """Raise ConstraintError if the start rule, or one that `bodies` name, is not defined."""
    if start not in rules:
        raise grammar_error(f"there is no rule {start!r}, where every grammar starts")
    pending = list(bodies)
    while pending:
        match pending.pop():
            case Rule(name):
                if name not in rules:
                    raise grammar_error(f"the rule {name!r} is not defined")
            case Sequence(parts):
                pending.extend(parts)
            case Choice(options):
                pending.extend(options)
            case Repeat(part):
                pending.append(part)
            case _:
                pass
