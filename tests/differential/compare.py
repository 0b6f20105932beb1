"""Differences between two shapes: where, of which kind, and what each side said."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tests.differential.message import HttpAnswer, HttpRequest
from tests.differential.shape import shape

Kind = Literal["status", "value", "type", "missing", "extra", "order", "length"]


@dataclass(frozen=True)
class Difference:
    """One place in which an answer of ours is not like the judge's."""

    route: str
    kind: Kind
    field: str
    """A path as `body.choices[].text`: the places of a list are not told apart."""
    judge: Any
    ours: Any


def differences(request: HttpRequest, judge: HttpAnswer, ours: HttpAnswer) -> list[Difference]:
    """Return all differences between two answers to a request; of another status nothing further is compared."""
    route = request.route
    if judge.status != ours.status:
        return [Difference(route, "status", "status", _told(judge), _told(ours))]
    found = _between("", shape(request, judge), shape(request, ours))
    return [Difference(route, kind, field, theirs, own) for kind, field, theirs, own in found]


def _told(answer: HttpAnswer) -> str:
    return f"{answer.status} {answer.body[:500].decode(errors='replace')}"


def _between(field: str, judge: Any, ours: Any) -> Iterator[tuple[Kind, str, Any, Any]]:
    if type(judge) is not type(ours):
        yield "type", field, judge, ours
    elif isinstance(judge, dict):
        yield from _between_objects(field, judge, ours)
    elif isinstance(judge, list):
        if len(judge) != len(ours):
            yield "length", field, judge, ours
            return
        for one, other in zip(judge, ours, strict=True):
            yield from _between(f"{field}[]", one, other)
    elif judge != ours:
        yield "value", field, judge, ours


def _between_objects(
    field: str, judge: dict[str, Any], ours: dict[str, Any]
) -> Iterator[tuple[Kind, str, Any, Any]]:
    for key, value in judge.items():
        inner = f"{field}.{key}".lstrip(".")
        if key in ours:
            yield from _between(inner, value, ours[key])
        else:
            yield "missing", inner, value, None
    for key, value in ours.items():
        if key not in judge:
            yield "extra", f"{field}.{key}".lstrip("."), None, value
    common = [key for key in judge if key in ours]
    if common != [key for key in ours if key in judge]:
        yield "order", field, list(judge), list(ours)
