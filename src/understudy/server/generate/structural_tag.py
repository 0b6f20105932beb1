"""Texts of structural tags: xgrammar 0.2.8's formats, as vLLM 0.33 takes them, and the older `structures` with `triggers`."""

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.regex import parse_regex
from understudy.server.generate.grammar.regex_text import write_regex
from understudy.server.generate.json_text import json_text
from understudy.server.generate.schema import SchemaDocument, read_schema, write_value
from understudy.server.generate.words import words_text
from understudy.server.generate.work import Work
from understudy.wire.limits import MAX_SCHEMA_NESTING, STRUCTURAL_TAG_WRAPPER_NESTING

MAX_TAG_NESTING = MAX_SCHEMA_NESTING + STRUCTURAL_TAG_WRAPPER_NESTING
"""The limit for schemas, and further levels for the tags around them."""

_MAX_TAG_CHARACTERS = 262_144
_MOST_REPEATS = 3
_MOST_WORDS = 8
_MAX_TRIES = 20

_UNITS_OF_A_PART = 5
_CHARACTERS_OF_A_UNIT = 20
_EXCLUSIONS_OF_A_UNIT = 8

GrammarWriter = Callable[[str, Random, Work], str]


def structural_tag_text(tag: str, rng: Random, work: Work, write_grammar: GrammarWriter) -> str:
    """Return a text of a structural tag, given as JSON.

    Raises ConstraintError for what is no structural tag, for what is written in tokens or in a style other than JSON, and
    where all its parts together take too much work.
    """
    if len(tag) > _MAX_TAG_CHARACTERS:
        raise _invalid(f"it has {len(tag):,} characters, more than {_MAX_TAG_CHARACTERS:,}")
    try:
        work.spend(len(tag) // _CHARACTERS_OF_A_UNIT)
        document = json.loads(tag)
        if not isinstance(document, dict):
            raise _invalid("it must be an object")
        form = _triggered(document) if "structures" in document else document["format"]
        return _TagWriter(rng, work, write_grammar).text(form, 0)
    except KeyError as error:
        raise _invalid(f"{error} is missing") from None
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError):
        raise _invalid("it is not of the form that a structural tag has") from None


def _invalid(reason: str) -> ConstraintError:
    return ConstraintError(f"Invalid structural tag specification: {reason}")


def _triggered(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the older form as a format of the newer."""
    tags = [
        {
            "begin": structure["begin"],
            "content": {"type": "json_schema", "json_schema": structure["schema"]},
            "end": structure["end"],
        }
        for structure in document["structures"]
    ]
    return {"type": "triggered_tags", "triggers": document["triggers"], "tags": tags}


class _TagWriter:
    """Writes formats; a part that comes again and again is read once."""

    def __init__(self, rng: Random, work: Work, write_grammar: GrammarWriter) -> None:
        self._rng = rng
        self._work = work
        self._schemas: dict[int, SchemaDocument] = {}
        self._writers: dict[str, Callable[[Mapping[str, Any], int], str]] = {
            "const_string": lambda form, _: str(form["value"]),
            "json_schema": lambda form, _: self._json(form),
            "grammar": lambda form, _: write_grammar(form["grammar"], rng, work),
            "regex": lambda form, _: write_regex(parse_regex(form["pattern"], work), rng, work),
            "any_text": lambda form, _: self._any_text(form),
            "sequence": lambda form, depth: "".join(self.text(part, depth) for part in form["elements"]),
            "or": lambda form, depth: self.text(rng.choice(form["elements"]), depth),
            "tag": self._tag,
            "optional": lambda form, depth: self._repeated(form["content"], 0, 1, depth),
            "plus": lambda form, depth: self._repeated(form["content"], 1, _MOST_REPEATS, depth),
            "star": lambda form, depth: self._repeated(form["content"], 0, _MOST_REPEATS, depth),
            "repeat": self._repeat,
            "triggered_tags": self._triggered_tags,
            "tags_with_separator": self._separated_tags,
            "dispatch": self._dispatched,
        }

    def text(self, form: Mapping[str, Any], depth: int) -> str:
        """Return a text of a format."""
        if depth > MAX_TAG_NESTING:
            raise _invalid("it is nested too deeply")
        kind = form["type"]
        if kind not in self._writers:
            raise _invalid(f"the format {str(kind)[:40]!r} is not supported")
        text = self._writers[kind](form, depth + 1)
        self._work.spend(_UNITS_OF_A_PART + len(text) // _CHARACTERS_OF_A_UNIT)
        return text

    def _json(self, form: Mapping[str, Any]) -> str:
        if form.get("style", "json") != "json":
            raise _invalid(f"the style {form['style']!r} is not supported")
        if id(form) not in self._schemas:
            self._schemas[id(form)] = read_schema(form["json_schema"], self._work)
        return json_text(write_value(self._schemas[id(form)], self._rng))

    def _any_text(self, form: Mapping[str, Any]) -> str:
        excludes = form.get("excludes", ())
        for _ in range(_MAX_TRIES):
            self._work.spend(_UNITS_OF_A_PART + len(excludes) // _EXCLUSIONS_OF_A_UNIT)
            text = words_text(self._rng, self._rng.randint(1, _MOST_WORDS))[: form.get("max_chars")]
            if not any(excluded in text for excluded in excludes):
                return text
        return ""

    def _tag(self, form: Mapping[str, Any], depth: int) -> str:
        ends = form["end"] if isinstance(form["end"], list) else [form["end"]]
        begin, end = form["begin"], self._rng.choice(ends)
        if not isinstance(begin, str) or not isinstance(end, str):
            raise _invalid("tags that are tokens are not supported")
        return f"{begin}{self.text(form['content'], depth)}{end}"

    def _repeat(self, form: Mapping[str, Any], depth: int) -> str:
        lowest, highest = int(form["min"]), int(form["max"])
        most = lowest + _MOST_REPEATS if highest < 0 else min(highest, lowest + _MOST_REPEATS)
        if not 0 <= lowest <= most:
            raise _invalid("min and max of a repeat are the wrong way round")
        return self._repeated(form["content"], lowest, most, depth)

    def _repeated(self, content: Mapping[str, Any], lowest: int, highest: int, depth: int) -> str:
        return "".join(self.text(content, depth) for _ in range(self._rng.randint(lowest, highest)))

    def _separated_tags(self, form: Mapping[str, Any], depth: int) -> str:
        return str(form["separator"]).join(self._some_tags(form, depth))

    def _triggered_tags(self, form: Mapping[str, Any], depth: int) -> str:
        before = "" if form.get("at_least_one") else self._free_text(form["triggers"])
        return before + "".join(self._some_tags(form, depth))

    def _some_tags(self, form: Mapping[str, Any], depth: int) -> list[str]:
        tags: Sequence[Mapping[str, Any]] = form["tags"]
        count = self._rng.randint(
            1 if form.get("at_least_one") else 0, 1 if form.get("stop_after_first") else 2
        )
        return [self._tag(self._rng.choice(tags), depth) for _ in range(count)] if tags else []

    def _dispatched(self, form: Mapping[str, Any], depth: int) -> str:
        rules = form["rules"]
        self._work.spend(len(rules) // _EXCLUSIONS_OF_A_UNIT)
        before = self._free_text([pattern for pattern, _ in rules])
        if not rules or self._rng.random() < 0.5:
            return before
        pattern, content = self._rng.choice(rules)
        return f"{before}{pattern}{self.text(content, depth)}"

    def _free_text(self, triggers: Sequence[str]) -> str:
        return self._any_text({"excludes": triggers}) if self._rng.random() < 0.5 else ""
