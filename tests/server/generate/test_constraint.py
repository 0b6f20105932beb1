"""Laws of structured outputs other than JSON schemas."""

import json
import re
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.server.generate import Constraint, ConstraintError, text_for
from understudy.server.generate.grammar.match import Matcher
from understudy.server.generate.grammar.regex import parse_regex
from understudy.server.generate.work import Work

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "é",
        r"\.",
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        "[a-c]",
        "[^a]",
        r"[\d_-]",
        ".",
        "(?i:x)",
        r"\n",
        "[^\\W\\d]",
    ]
)


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quantifiers = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"])
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: f"({'|'.join(options)})"),
        st.tuples(inner, quantifiers).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    )


PATTERNS = st.recursive(ATOMS, _combined, max_leaves=10)


@given(pattern=PATTERNS, seed=st.integers(0, 9))
def test_a_text_matches_its_regular_expression(pattern: str, seed: int) -> None:
    """As a whole, to Python's own matcher, with or without anchors around it."""
    for form in (pattern, f"^{pattern}$"):
        text = text_for(Constraint(regex=form), Random(seed))
        assert re.fullmatch(form, text, re.ASCII)


@given(pattern=PATTERNS, text=st.text("ab.é 1_-x\n", max_size=12))
def test_the_matcher_agrees_with_pythons(pattern: str, text: str) -> None:
    """On whole texts and on parts of them, for `$` as the very end, which JSON schema means by it."""
    expression = parse_regex(pattern, Work())
    assert Matcher(text, Work()).fits_whole(expression) == bool(re.fullmatch(pattern, text, re.ASCII))
    assert Matcher(text, Work()).fits_somewhere(expression) == bool(re.search(pattern, text, re.ASCII))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "((a*)*)*c", "(.*)*x"])
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    """A text on which Python's matcher would take years is refused or told in a bounded number of steps."""
    expression = parse_regex(f"^{pattern}", Work())
    assert not Matcher("a" * 60 + "!", Work()).fits_whole(expression)


@given(choices=st.lists(st.text(), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_a_choice_is_one_of_the_choices(choices: list[str], seed: int) -> None:
    """Word by word."""
    assert text_for(Constraint(choice=choices), Random(seed)) in choices


def test_a_json_object_is_one() -> None:
    """Whatever is in it."""
    for seed in range(50):
        assert isinstance(json.loads(text_for(Constraint(json_object=True), Random(seed))), dict)


ARITHMETIC_EBNF = r"""
# a comment
root ::= term (("+" | "-") term)*
term ::= number | "(" root ")"
number ::= [1-9] [0-9]{0,2}
"""
ARITHMETIC_LARK = r"""
?start: term (("+" | "-") term)*   // a comment
?term: NUMBER -> number
     | "(" start ")"
NUMBER: "1".."9" /[0-9]{0,2}/
%import common.WS
%ignore WS
"""


@given(grammar=st.sampled_from([ARITHMETIC_EBNF, ARITHMETIC_LARK]), seed=st.integers(0, 300))
def test_a_grammars_text_follows_its_rules(grammar: str, seed: int) -> None:
    """Arithmetic is balanced and complete, of a size that one can read, in either syntax."""
    text = text_for(Constraint(grammar=grammar), Random(seed))
    assert len(text) < 2000
    while "(" in text:
        text, count = re.subn(r"\([1-9]\d{0,2}([+-][1-9]\d{0,2})*\)", "7", text)
        assert count
    assert re.fullmatch(r"[1-9]\d{0,2}([+-][1-9]\d{0,2})*", text)


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        ('root ::= "\\"\\u00e9\\n" [\\]] | undefined\nundefined ::= "\\x41"', r'"é\n\]|A'),
        ('root ::= ("a" | ) "b"{2}', r"a?bb"),
        ('start: "sel"i [X] ~ 2..3\nX: "x"', r"[sS][eE][lL]x{0,3}"),
        ("start: /a+/i B\n%import common.DIGIT -> B", r"[aA]+[0-9]"),
        ("%import common (INT, CNAME)\nstart: INT | CNAME", r"[0-9]+|[A-Za-z_][A-Za-z0-9_]*"),
    ],
)
def test_the_syntax_of_grammars(grammar: str, expected: str) -> None:
    """Escapes, classes, repetitions, optional parts, ranges and imports mean what they mean in xgrammar."""
    for seed in range(30):
        assert re.fullmatch(expected, text_for(Constraint(grammar=grammar), Random(seed)))


def _tag(**form: Any) -> str:
    return json.dumps({"type": "structural_tag", "format": form})


_CALL = {
    "type": "tag",
    "begin": "<f>",
    "content": {"type": "json_schema", "json_schema": {"const": 1}},
    "end": "</f>",
}
_WORDS = r"[a-z ]*"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (_tag(**_CALL), r"<f>1</f>"),
        (_tag(type="triggered_tags", triggers=["<f"], tags=[_CALL]), rf"{_WORDS}(<f>1</f>)*"),
        (_tag(type="triggered_tags", triggers=["<f"], tags=[_CALL], at_least_one=True, stop_after_first=True), r"<f>1</f>"),
        (_tag(type="tags_with_separator", tags=[_CALL], separator=";", at_least_one=True), r"<f>1</f>(;<f>1</f>)?"),
        (_tag(type="sequence", elements=[{"type": "const_string", "value": "x"}, {"type": "any_text"}]), rf"x{_WORDS}"),
        (_tag(type="or", elements=[{"type": "regex", "pattern": "a+"}, {"type": "grammar", "grammar": 'root ::= "b"'}]), r"a+|b"),
        (_tag(type="repeat", min=2, max=3, content=_CALL), r"(<f>1</f>){2,3}"),
        (_tag(type="plus", content=_CALL), r"(<f>1</f>)+"),
        (_tag(type="star", content={"type": "optional", "content": _CALL}), r"(<f>1</f>)*"),
        (_tag(type="dispatch", rules=[["<go>", _CALL]]), rf"{_WORDS}(<go><f>1</f>)?"),
        (json.dumps({"structures": [{"begin": "<f>", "schema": {"const": 1}, "end": "</f>"}], "triggers": ["<f"]}), rf"{_WORDS}(<f>1</f>)*"),
    ],
)  # fmt: skip
def test_structural_tags_are_followed(tag: str, expected: str) -> None:
    """Each format gives text of its form."""
    for seed in range(30):
        assert re.fullmatch(expected, text_for(Constraint(structural_tag=tag), Random(seed)))


def _written_forty_times(constraint: Constraint) -> None:
    for seed in range(40):
        text_for(constraint, Random(seed))


_NESTED = {"type": "any_text"}
for _ in range(100):
    _NESTED = {"type": "star", "content": _NESTED}  # type: ignore[dict-item]  # JSON nests


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        (Constraint(), "must use one kind"),
        (Constraint(regex="a", choice=["a"]), "only use one kind"),
        (Constraint(regex="\0"), "NUL"),
        (Constraint(regex="("), "Failed to transform regex"),
        (Constraint(regex=r"(a)\1"), "reference to a group"),
        (Constraint(regex=r"\bword"), "word boundary"),
        (Constraint(regex="a{1000000000}"), "even the shortest text"),
        (Constraint(regex="((((a{99}){99}){99}){99})"), "even the shortest text"),
        (Constraint(regex="a^b"), "no text is found"),
        (Constraint(regex=r"[^\s\S]"), "excludes every character"),
        (Constraint(regex="(" * 100 + ")" * 100), "more than 64 deep"),
        (Constraint(regex="a" * 20_000), "more than 8,192"),
        (Constraint(choice=[]), "empty list"),
        (Constraint(json_object=False), "must be True"),
        (Constraint(json="  "), "cannot be an empty string"),
        (Constraint(grammar="\n"), "cannot be an empty string"),
        (Constraint(grammar="root ::= root"), "no text that ever ends"),
        (Constraint(grammar='other ::= "a"'), "no rule 'root'"),
        (Constraint(grammar="root ::= missing"), "'missing' is not defined"),
        (Constraint(grammar='root ::= "a'), "line 1"),
        (Constraint(grammar="root ::= " + "(" * 100), "more than 64 deep"),
        (Constraint(grammar='start: "a" ~ 5..2'), "wrong way round"),
        (Constraint(grammar='start: "a"\n%import python.NAME'), "not supported"),
        (Constraint(grammar="start: X\n%import common.X"), "no common.X"),
        (Constraint(grammar='start: "ab".."c"'), "range"),
        (Constraint(structural_tag=""), "cannot be an empty string"),
        (Constraint(structural_tag="[]"), "must be an object"),
        (Constraint(structural_tag="{}"), "'format' is missing"),
        (Constraint(structural_tag=_tag(type="token", token=5)), "'token' is not supported"),
        (Constraint(structural_tag=_tag(type="or", elements=[])), "form that a structural tag has"),
        (Constraint(structural_tag=_tag(**{**_CALL, "begin": {"type": "token", "token": 5}})), "tokens"),
        (Constraint(structural_tag=_tag(**_NESTED)), "nested too deeply|more than"),
    ],
)
def test_what_cannot_be_is_refused(constraint: Constraint, problem: str) -> None:
    """In one line, and in bounded work, whatever the seed."""
    with pytest.raises(ConstraintError, match=problem) as refusal:
        _written_forty_times(constraint)
    assert "\n" not in str(refusal.value)


@given(text=st.text(max_size=300), kind=st.sampled_from(["json", "regex", "grammar", "structural_tag"]))
def test_garbage_gives_a_text_or_an_error_for_people(text: str, kind: str) -> None:
    """No other exception comes out, whatever is sent."""
    constraint = Constraint(**{kind: text})  # type: ignore[arg-type]  # by name
    with suppress(ConstraintError):
        assert isinstance(text_for(constraint, Random(0)), str)
