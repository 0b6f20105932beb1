"""Writes a value that satisfies a schema: chooses among its branches, and goes back where a choice leads nowhere."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice, product
from random import Random
from typing import Any

from understudy.server.generate.constraint_error import ConstraintError
from understudy.server.generate.grammar.regex_text import write_regex
from understudy.server.generate.schema.conforms import (
    Checker,
    equality_key,
    item_schema,
    property_schemas,
)
from understudy.server.generate.schema.dead_end import DeadEnd
from understudy.server.generate.schema.document import TYPES, Schema, SchemaDocument
from understudy.server.generate.schema.numbers import write_number
from understudy.server.generate.schema.strings import write_string
from understudy.server.generate.words import words_text

_MAX_DEPTH = 64
_MAX_COMPOSITION = 100
_TRIES_OF_A_BRANCH = 4
_TRIES_OF_A_DOCUMENT = 10
_TRIES_OF_AN_ITEM = 20

_FRUGAL_DEPTH = 4
_FRUGAL_STEPS = 400
"""From there on only what is required is written, so that recursive schemas end."""

_OPTIONAL_SHARE = 0.8
_MORE_ITEMS = 2
_FREE_MEMBERS = 3
_MOST_MEMBERS = 100_000

_UNITS_OF_A_BRANCH = 4
_UNITS_OF_A_VALUE = 10
_SCHEMAS_OF_A_UNIT = 16
_CHARACTERS_OF_A_UNIT = 100

_TYPICAL = ("string", "integer", "boolean")

_TYPE_OF_KEYWORD = {
    **dict.fromkeys(
        (
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "minProperties",
            "maxProperties",
        ),
        "object",
    ),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"), "array"),
    **dict.fromkeys(("pattern", "format", "minLength", "maxLength"), "string"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
}

_NEEDS_CHECK = ("oneOf", "not", "if", "contains", "dependentRequired")
"""Keywords that a branch does not satisfy by being taken."""

Part = Mapping[str, Any]


def write_value(document: SchemaDocument, rng: Random) -> object:
    """Return a JSON value that satisfies a schema.

    Keywords that JSON schema does not define, `unevaluated…`, anchors and `dependentSchemas` are no constraint. Raises
    ConstraintError if no value is found, which need not mean that there is none.
    """
    checker = Checker(document)
    writer = _Writer(document, checker, rng)
    for _ in range(_TRIES_OF_A_DOCUMENT):
        try:
            value = writer.document_value()
        except DeadEnd:
            continue
        if checker.conforms(value, document.root):
            return value
    raise ConstraintError("no value is found that satisfies the JSON schema")


class _Writer:
    """Writes one value; a part is a schema of which everything but its compositions must hold."""

    def __init__(self, document: SchemaDocument, checker: Checker, rng: Random) -> None:
        self._document = document
        self._checker = checker
        self._rng = rng
        self._work = document.work
        self._steps = 0
        self._first_step = 0
        self._referring: dict[int, bool] = {}

    def document_value(self) -> object:
        """Return a value that satisfies the whole document; raises DeadEnd."""
        self._first_step = self._steps
        return self.value([self._document.root], 0)

    def value(self, schemas: Sequence[Schema], depth: int) -> object:
        """Return a value that satisfies all schemas; raises DeadEnd."""
        if depth > _MAX_DEPTH:
            raise DeadEnd
        for parts in self._branches(schemas, depth, 0):
            needs_check = any(keyword in part for part in parts for keyword in _NEEDS_CHECK)
            for _ in range(_TRIES_OF_A_BRANCH if needs_check else 1):
                try:
                    value = self._plain(parts, depth)
                except DeadEnd:
                    continue
                if not needs_check or all(self._checker.conforms(value, schema) for schema in schemas):
                    return value
        raise DeadEnd

    def _step(self, units: int) -> None:
        self._steps += 1
        self._work.spend(units)

    def _is_frugal(self, depth: int) -> bool:
        return depth > _FRUGAL_DEPTH or self._steps - self._first_step > _FRUGAL_STEPS

    def _branches(self, schemas: Sequence[Schema], depth: int, nesting: int) -> Iterator[list[Part]]:
        """Yield, in an order by chance, the parts that together satisfy all schemas."""
        self._step(_UNITS_OF_A_BRANCH + len(schemas) // _SCHEMAS_OF_A_UNIT)
        if not schemas:
            yield []
            return
        first = self._document.checked(schemas[0])
        if first is False or nesting > _MAX_COMPOSITION:
            return
        if first is True:
            yield from self._branches(schemas[1:], depth, nesting + 1)
            return
        required: list[Schema] = list(first.get("allOf", ()))
        if "$ref" in first:
            required.append(self._document.resolve(first["$ref"]))
        for choice in product(*self._alternatives(first, depth)):
            self._work.spend(len(required) // _SCHEMAS_OF_A_UNIT)
            further = [*required, *chain.from_iterable(choice), *schemas[1:]]
            for parts in self._branches(further, depth, nesting + 1):
                yield [first, *parts]

    def _alternatives(self, schema: Part, depth: int) -> list[list[list[Schema]]]:
        """Return for each composition its alternatives, each a list of schemas that must hold together."""
        groups: list[list[list[Schema]]] = [
            [[option] for option in schema[keyword]] for keyword in ("anyOf", "oneOf") if keyword in schema
        ]
        if "if" in schema:
            groups.append([[schema["if"], schema.get("then", True)], [schema.get("else", True)]])
        for group in groups:
            self._work.spend(len(group))
            self._rng.shuffle(group)
            if self._is_frugal(depth):
                group.sort(key=self._refers)
        return groups

    def _refers(self, option: Sequence[Schema]) -> bool:
        """Whether an alternative holds a reference, and so may be endless."""
        key = id(option[0])
        if key not in self._referring:
            text = repr(option[0])
            self._work.spend(1 + len(text) // _CHARACTERS_OF_A_UNIT)
            self._referring[key] = "$ref" in text
        return self._referring[key]

    def _plain(self, parts: Sequence[Part], depth: int) -> object:
        self._step(_UNITS_OF_A_VALUE)
        for keyword in ("const", "enum"):
            listing = next((part for part in parts if keyword in part), None)
            if listing is not None:
                return self._listed(listing, keyword, parts)
        name = self._rng.choice(self._types(parts, depth))
        writers: dict[str, Callable[[], object]] = {
            "string": lambda: write_string(parts, self._rng, self._document),
            "integer": lambda: write_number(parts, self._rng, self._work, is_integer=True),
            "number": lambda: write_number(parts, self._rng, self._work, is_integer=False),
            "boolean": lambda: self._rng.random() < 0.5,
            "null": lambda: None,
            "array": lambda: self._array(parts, depth),
            "object": lambda: self._object(parts, depth),
        }
        return writers[name]()

    def _listed(self, listing: Part, keyword: str, parts: Sequence[Part]) -> object:
        """Return an item that one part lists and all allow: by chance, and if that finds none, the next that does."""
        items = listing["enum"] if keyword == "enum" else [listing["const"]]
        start = self._rng.randrange(len(items)) if items else 0
        tried = (self._rng.choice(items) for _ in range(min(len(items), _TRIES_OF_AN_ITEM)))
        for item in chain(tried, islice(items, start, None), islice(items, start)):
            if keyword == "enum":
                self._checker.took(item, listing)
            if all(self._checker.conforms(item, part) for part in parts):
                return item
        raise DeadEnd

    def _types(self, parts: Sequence[Part], depth: int) -> list[str]:
        """Return the types that all parts allow; where none says, what their keywords are about."""
        allowed = set(TYPES)
        for part in parts:
            if "type" in part:
                named = {part["type"]} if isinstance(part["type"], str) else set(part["type"])
                allowed &= named | ({"integer"} if "number" in named else set())
        if not any("type" in part for part in parts):
            about = {
                _TYPE_OF_KEYWORD[keyword] for part in parts for keyword in part if keyword in _TYPE_OF_KEYWORD
            }
            allowed = about or set(_TYPICAL)
        if "number" in allowed:
            allowed.discard("integer")
        if self._is_frugal(depth):
            allowed = allowed - {"array", "object"} or allowed
        if not allowed:
            raise DeadEnd
        return sorted(allowed)

    def _array(self, parts: Sequence[Part], depth: int) -> list[object]:
        fewest = int(max((part["minItems"] for part in parts if "minItems" in part), default=0))
        wanted = [part["contains"] for part in parts if "contains" in part]
        num_wanted = max((int(part.get("minContains", 1)) for part in parts if "contains" in part), default=0)
        fewest = max(fewest, num_wanted)
        most = int(
            min((part["maxItems"] for part in parts if "maxItems" in part), default=fewest + _MORE_ITEMS)
        )
        if fewest > most:
            raise DeadEnd
        usual = max((len(part.get("prefixItems", ())) for part in parts), default=0)
        aim = fewest
        if not self._is_frugal(depth):
            aim = min(most, max(fewest, usual) + self._rng.randint(0, _MORE_ITEMS))
        is_unique = any(part.get("uniqueItems") for part in parts)
        items: list[object] = []
        seen: set[Hashable] = set()
        while len(items) < aim:
            schemas = [item_schema(part, len(items)) for part in parts]
            try:
                item = self._item([*schemas, *(wanted if len(items) < num_wanted else ())], depth, seen)
            except DeadEnd:
                if len(items) < fewest:
                    raise
                break
            items.append(item)
            if is_unique:
                seen.add(equality_key(item, self._work))
        return items

    def _item(self, schemas: Sequence[Schema], depth: int, seen: set[Hashable]) -> object:
        for _ in range(_TRIES_OF_AN_ITEM):
            item = self.value(schemas, depth + 1)
            if not seen or equality_key(item, self._work) not in seen:
                return item
        raise DeadEnd

    def _object(self, parts: Sequence[Part], depth: int) -> dict[str, object]:
        declared = dict.fromkeys(name for part in parts for name in part.get("properties", ()))
        required = self._required(parts)
        fewest = int(max((part["minProperties"] for part in parts if "minProperties" in part), default=0))
        most = int(
            min((part["maxProperties"] for part in parts if "maxProperties" in part), default=_MOST_MEMBERS)
        )
        names = [name for name in declared if name in required or self._takes_optional(depth)]
        names.extend(name for name in required if name not in declared)
        chosen = set(names)
        spare = (name for name in declared if name not in chosen)
        names.extend(islice(spare, max(0, fewest - len(names))))
        members: dict[str, object] = {}
        num_still_required = len(required)
        for name in names:
            is_required = name in required
            num_expected = len(members) + num_still_required
            if not is_required and (
                num_expected >= most or (num_expected >= fewest and self._is_frugal(depth))
            ):
                continue
            num_still_required -= is_required
            try:
                members[name] = self._member(parts, name, depth)
            except DeadEnd:
                if is_required:
                    raise
        self._add_members(parts, members, self._num_free(parts, fewest, depth), depth, most)
        if not fewest <= len(members) <= most:
            raise DeadEnd
        return members

    def _takes_optional(self, depth: int) -> bool:
        return not self._is_frugal(depth) and self._rng.random() < _OPTIONAL_SHARE

    def _num_free(self, parts: Sequence[Part], fewest: int, depth: int) -> int:
        """Return how many members an object should have at least, counting those of names that no schema gives.

        Like vLLM's grammars, an object that names its members gets no others unless it must have more.
        """
        names_its_members = any("properties" in part or "required" in part for part in parts)
        if names_its_members or self._is_frugal(depth):
            return fewest
        return max(fewest, self._rng.randint(1, _FREE_MEMBERS))

    def _required(self, parts: Sequence[Part]) -> dict[str, None]:
        """Return the names as keys, in order."""
        return dict.fromkeys(name for part in parts for name in part.get("required", ()))

    def _member(self, parts: Sequence[Part], name: str, depth: int) -> object:
        if not all(self._checker.conforms(name, part.get("propertyNames", True)) for part in parts):
            raise DeadEnd
        return self.value(
            [schema for part in parts for schema in property_schemas(part, name, self._document)], depth + 1
        )

    def _add_members(
        self, parts: Sequence[Part], members: dict[str, object], aim: int, depth: int, most: int
    ) -> None:
        """Add members of names that no schema declares, as long as that works."""
        for _ in range(min(aim, most) + _TRIES_OF_AN_ITEM):
            if len(members) >= min(aim, most):
                return
            with suppress(DeadEnd):
                name = self._free_name(parts, len(members), depth)
                if name not in members:
                    members[name] = self._member(parts, name, depth)

    def _free_name(self, parts: Sequence[Part], num_members: int, depth: int) -> str:
        patterns = [pattern for part in parts for pattern in part.get("patternProperties", ())]
        if patterns:
            return write_regex(self._document.pattern(self._rng.choice(patterns)), self._rng, self._work)
        rules = [part["propertyNames"] for part in parts if "propertyNames" in part]
        if rules:
            return str(self.value([*rules, {"type": "string"}], depth + 1))
        return words_text(self._rng, 2).replace(" ", "_") + (
            f"_{num_members}" if num_members > _FREE_MEMBERS else ""
        )
