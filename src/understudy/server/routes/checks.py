"""Reading the parameters and bodies of requests as FastAPI does; what does not fit ends in ApiError."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from understudy.web import DEFAULT_LIMITS, read_body
from understudy.wire.body import JSON_CONTENT_TYPE, parse_body
from understudy.wire.errors import ApiError, internal, schema_refusal, wrong_content_type

Fields = TypeVar("Fields", bound=BaseModel)

BAD_REQUEST_PHRASE = "Bad Request"
"""The type of errors that vLLM's handlers raise themselves, in the framework's way."""

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def read_query(request: web.Request, shape: type[Fields]) -> Fields:
    """Return the query parameters; of one that comes several times, the last."""
    values = {name: request.query.getall(name)[-1] for name in shape.model_fields if name in request.query}
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        raise _refusal("query", error.errors(include_url=False)) from None


async def read_fields(request: web.Request, shape: type[Fields]) -> Fields:
    """Return fields that lie in a JSON body; of a body that is no object all are missing, even those with a default."""
    body = await _read_body(request)
    if body is not None and not isinstance(body, dict):
        raise _refusal("body", [_missing(name) for name in shape.model_fields])
    try:
        return shape.model_validate(body or {})
    except ValidationError as error:
        errors = error.errors(include_url=False)
        for each in errors:
            if each["type"] == "missing":
                each["input"] = None
        raise _refusal("body", errors) from None


async def read_document(request: web.Request, shape: type[Fields]) -> Fields:
    """Return a JSON body as a whole; no other content type is allowed."""
    return parse_body(
        await read_body(request, DEFAULT_LIMITS), TypeAdapter(shape), request.headers.get("Content-Type", "")
    )


async def read_loose_json(request: web.Request, invalid: str) -> Any:
    """Return a body as JSON, whatever its content type; what is none is refused with the message `invalid`.

    `{error}` in it stands for what is wrong.
    """
    try:
        return json.loads(await read_body(request, DEFAULT_LIMITS))
    except json.JSONDecodeError as error:
        raise ApiError(invalid.replace("{error}", str(error)), kind=BAD_REQUEST_PHRASE) from None
    except ValueError as error:
        raise ApiError(str(error)) from None
    except RecursionError as error:
        raise internal(str(error)) from None


def check_json_content(request: web.Request) -> None:
    """Refuse a body whose content type is not JSON."""
    content_type = request.headers.get("Content-Type", "").lower()
    if content_type.split(";", maxsplit=1)[0] != JSON_CONTENT_TYPE:
        raise wrong_content_type()


async def _read_body(request: web.Request) -> Any:
    """Return a body: parsed if its content type is JSON, else its bytes, None if there are none."""
    data = await read_body(request, DEFAULT_LIMITS)
    kind, _, subtype = request.content_type.lower().partition("/")
    if not data:
        return None
    is_json = kind == "application" and (subtype == "json" or subtype.endswith("+json"))
    return parse_body(data, _ANYTHING) if is_json else data


def _missing(name: str) -> ErrorDetails:
    return {"type": "missing", "loc": (name,), "msg": "Field required", "input": None}


def _refusal(part: str, errors: Sequence[ErrorDetails]) -> ApiError:
    return schema_refusal([{**error, "loc": (part, *error["loc"])} for error in errors])
