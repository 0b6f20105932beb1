"""The bytes of a request's body to a validated model, with the errors that FastAPI and pydantic give on the way."""

import json
import re
from email.message import Message
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from understudy.wire.errors import (
    ApiError,
    internal,
    malformed_json,
    missing_body,
    schema_refusal,
    unparsable,
    wrong_content_type,
)

Model = TypeVar("Model")

JSON_CONTENT_TYPE = "application/json"

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_body(body: bytes, adapter: TypeAdapter[Model], content_type: str = JSON_CONTENT_TYPE) -> Model:
    """Return the request that a body holds; raises ApiError as vLLM's server would answer."""
    if not _is_json(content_type):
        raise wrong_content_type()
    value = _parsed(body) if body else None
    if content_type.lower().split(";", maxsplit=1)[0] != JSON_CONTENT_TYPE:
        raise wrong_content_type()
    if not body:
        raise missing_body()
    return validated(value, adapter)


def validated(value: object, adapter: TypeAdapter[Model]) -> Model:
    """Return a parsed body as a model; raises ApiError.

    Some of vLLM's checks trip over odd values; it answers what Python then says, and so do the same checks here.
    """
    try:
        return adapter.validate_python(value, from_attributes=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise schema_refusal([{**detail, "loc": ("body", *detail["loc"])} for detail in details]) from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ApiError(str(error)) from None
    except (AttributeError, KeyError, IndexError, RecursionError) as error:
        raise internal(str(error)) from None


def _is_json(content_type: str) -> bool:
    """Whether FastAPI parses such a body at all."""
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


def _parsed(body: bytes) -> object:
    try:
        value: object = json.loads(body)
    except json.JSONDecodeError as error:
        raise malformed_json(error.pos, error.msg) from None
    except (ValueError, RecursionError):
        raise unparsable() from None
    if _SURROGATE.search(body):
        _check_characters(value)
    return value


def _check_characters(value: object) -> None:
    """Raise ApiError for half a character: no tokenizer takes it and no answer could repeat it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiError(
            "TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]"
        ) from None
    except RecursionError:
        raise unparsable() from None
