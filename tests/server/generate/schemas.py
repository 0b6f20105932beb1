"""JSON schemas by chance, nearly all of which some value satisfies."""

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

_NAMES = st.sampled_from(["a", "b", "c", "d", "long name", "é"])
_PATTERNS = st.sampled_from(
    [
        r"^\d{3}-\d{4}$",
        r"[a-z]+",
        r"^(red|green)$",
        r"^[A-Z][a-z]*( [A-Z][a-z]*)*$",
        r"\w+@\w+\.com",
        r"(a+)+b",
        "",
    ]
)
_FORMATS = st.sampled_from(["date", "date-time", "uuid", "email", "uri", "ipv4", "ipv6", "time", "hostname"])


def _with(base: Schema, **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries({}, optional=options).map(lambda chosen: {**base, **chosen})


@st.composite
def _strings(draw: st.DrawFn) -> Schema:
    lowest = draw(st.integers(0, 30))
    shape: st.SearchStrategy[Schema] = st.one_of(
        _with({"type": "string"}, minLength=st.just(lowest), maxLength=st.integers(lowest, lowest + 20)),
        _with({"type": "string"}, pattern=_PATTERNS),
        _with({"type": "string"}, format=_FORMATS),
        st.just({"type": "string", "pattern": "^[a-z]+$", "minLength": lowest, "maxLength": lowest + 5}),
    )
    return draw(shape)


@st.composite
def _numbers(draw: st.DrawFn) -> Schema:
    lowest = draw(st.integers(-1000, 1000) | st.floats(-1000, 1000))
    width = draw(st.integers(20, 1000))
    lower = draw(st.sampled_from(["minimum", "exclusiveMinimum", None]))
    upper = draw(st.sampled_from(["maximum", "exclusiveMaximum", None]))
    schema: Schema = {"type": draw(st.sampled_from(["integer", "number"]))}
    if lower:
        schema[lower] = lowest
    if upper:
        schema[upper] = lowest + width
    if draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 3, 7, 0.5, 0.25, 0.1]))
    return schema


_SCALARS = st.one_of(
    _strings(),
    _numbers(),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {}, {"type": ["string", "null"]}, {"const": {"x": [1]}}]
    ),
    st.lists(st.integers() | st.text() | st.booleans() | st.none(), min_size=1, max_size=4).map(
        lambda v: {"enum": v}
    ),
)


def _arrays(items: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    bounds = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
        lambda n: {"minItems": n[0], "maxItems": sum(n)}
    )
    return st.one_of(
        st.tuples(bounds, items).map(lambda p: {"type": "array", "items": p[1], **p[0]}),
        st.tuples(items, items).map(
            lambda p: {"type": "array", "prefixItems": list(p), "items": False, "minItems": 2}
        ),
        st.just({"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 4}),
        items.map(lambda item: {"type": "array", "contains": item}),
    )


@st.composite
def _objects(draw: st.DrawFn, members: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(_NAMES, members, max_size=4))
    schema: Schema = {"type": "object", "properties": properties}
    if properties:
        schema["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    others = draw(st.sampled_from([None, False, "schema", "patterns", "names"]))
    if others == "schema":
        schema["additionalProperties"] = draw(members)
        schema["minProperties"] = draw(st.integers(0, 6))
    elif others == "patterns":
        schema["patternProperties"] = {"^x[0-9]+$": draw(members)}
        schema["minProperties"] = len(properties) + 1
    elif others == "names":
        schema = {"type": "object", "propertyNames": {"pattern": "^[a-z]{2,5}$"}, "minProperties": 2}
    elif others is False:
        schema["additionalProperties"] = False
    return schema


def _compositions(parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        st.tuples(_objects(parts), _objects(st.just({}))).map(_all_of),
        parts.map(
            lambda part: {
                "oneOf": [{"type": "object", "properties": {"k": part}, "required": ["k"]}, {"type": "null"}]
            }
        ),
        parts.map(
            lambda part: {"$defs": {"p": part}, "type": "array", "items": part, "not": {"maxItems": 0}}
        ),
        parts.map(lambda part: {"if": {"type": "null"}, "then": {"type": "null"}, "else": part}),
    )


def _all_of(pair: tuple[Schema, Schema]) -> Schema:
    first, second = (dict(schema) for schema in pair)
    for schema in (first, second):
        for keyword in ("additionalProperties", "minProperties", "propertyNames", "patternProperties"):
            schema.pop(keyword, None)
    return {"allOf": [first, second]}


SCHEMAS: st.SearchStrategy[Schema] = st.recursive(
    _SCALARS, lambda inner: st.one_of(_arrays(inner), _objects(inner), _compositions(inner)), max_leaves=8
)
