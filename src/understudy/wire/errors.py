"""Errors as vLLM's server tells them to its clients: status, body and words.

(vllm/entrypoints/serve/exception_handling, vllm/exceptions.py and FastAPI's own two shapes, 0.33.0)
"""

import json
import re
from collections.abc import Sequence
from http import HTTPStatus

from pydantic_core import ErrorDetails

from understudy.wire.made import listed

BAD_REQUEST = "BadRequestError"

_MAX_REPORTED_ERRORS = 10
_MAX_INPUT_CHARACTERS = 200
_MAX_ERROR_CHARACTERS = 1000
_TRUNCATED = "...[truncated]"

_MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")
_TRACEBACK_LINE = re.compile(r'\n?\s*File "[^"]+", line \d+, in \S+(\n\s+.*)?')
_SYSTEM_PATH = re.compile(r"/(?:home|usr|opt|var|tmp|root|lib|mnt|srv)(?:/[\w.\-]+)+")
_FILE_PATH = re.compile(r"(?:/[\w\-]+)+/[\w\-]+\.\w+")

_BRACKET = re.compile(r"[\[\]{}()]")
_TYPE_WORDS = frozenset(
    [
        "function-wrap",
        "function-after",
        "function-before",
        "function-plain",
        "json-or-python",
        "lax-or-strict",
        "chain",
        "default",
        "nullable",
        "tagged-union",
        "union",
        "call",
        "arguments",
        "is-instance",
        "is-subclass",
        "callable",
        "str",
        "int",
        "float",
        "bool",
        "bytes",
        "bytearray",
        "list",
        "tuple",
        "dict",
        "set",
        "frozenset",
        "complex",
        "none",
        "nonetype",
    ]
)

UNPARSABLE_BODY = b'{"detail":"There was an error parsing the body"}'


class ApiError(Exception):
    """A request that is refused: an HTTP status and the fields of vLLM's error object."""

    def __init__(
        self,
        message: str,
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        kind: str = BAD_REQUEST,
        param: str | None = None,
        plain_body: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = int(status)
        self.kind = kind
        self.param = param
        self._plain_body = plain_body

    @property
    def fields(self) -> dict[str, object]:
        """The answer as an object, in vLLM's order of keys."""
        return {
            "error": {
                "message": sanitised(self.message),
                "type": self.kind,
                "param": self.param,
                "code": self.status,
            }
        }

    @property
    def body(self) -> bytes:
        """The body of the HTTP answer."""
        return self._plain_body or compact_json(self.fields)

    @property
    def completion_event(self) -> bytes:
        """The event that tells of the error in a stream of completions: spaced, in ASCII."""
        return b"data: %b\n\n" % json.dumps(self.fields).encode()

    @property
    def chat_event(self) -> bytes:
        """The event that tells of the error in a stream of chat chunks."""
        return b"data: %b\n\n" % compact_json(self.fields)


def compact_json(value: object) -> bytes:
    """Return JSON as vLLM's whole answers have it: no spaces, no escapes beyond need, Python's spelling of numbers."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=listed)
    return text.encode("utf-8", errors="replace")


def refusal(message: str, parameter: str | None = None, value: object = None) -> ApiError:
    """Return the 400 of a check: vLLM adds the parameter and, if it is told, the value in brackets."""
    extras = []
    if parameter is not None:
        extras.append(f"parameter={parameter}")
    if value is not None:
        extras.append(f"value={printed(value)}")
    text = f"{message} ({', '.join(extras)})" if extras else message
    return ApiError(text, param=parameter)


def not_found(message: str, param: str | None = None) -> ApiError:
    """Return vLLM's own 404."""
    return ApiError(message, status=HTTPStatus.NOT_FOUND, kind="NotFoundError", param=param)


def overloaded(message: str) -> ApiError:
    """Return the 503 of a full queue."""
    return ApiError(message, status=HTTPStatus.SERVICE_UNAVAILABLE, kind="Service Unavailable")


def internal(message: str = "Internal server error") -> ApiError:
    """Return the 500 of an engine that failed, or of a body that vLLM's own code trips over."""
    return ApiError(message, status=HTTPStatus.INTERNAL_SERVER_ERROR, kind="InternalServerError")


def unparsable() -> ApiError:
    """Return the 400 for bytes that are no text, or JSON that the parser gives up on: nesting, endless integers."""
    return ApiError("There was an error parsing the body", plain_body=UNPARSABLE_BODY)


def wrong_content_type() -> ApiError:
    """Return the 400 for a body that is not declared to be JSON."""
    return schema_refusal(["Unsupported Media Type: Only 'application/json' is allowed"])


def malformed_json(position: int, reason: str) -> ApiError:
    """Return the 400 for a body that is not JSON: where it stops being so, in characters, and why."""
    return schema_refusal(
        [
            {
                "type": "json_invalid",
                "loc": ("body", position),
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": reason},
            }
        ]
    )


def missing_body() -> ApiError:
    """Return the 400 for an empty body."""
    return schema_refusal([{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}])


def schema_refusal(errors: Sequence[ErrorDetails | dict[str, object] | str]) -> ApiError:
    """Return the 400 that lists what is wrong with a body, at most ten entries of bounded length."""
    label = "error" if len(errors) == 1 else "errors"
    lines = [f"{len(errors)} validation {label}:"]
    lines.extend(f"  {_formatted(error)}" for error in errors[:_MAX_REPORTED_ERRORS])
    if len(errors) > _MAX_REPORTED_ERRORS:
        lines.append(f"  ...and {len(errors) - _MAX_REPORTED_ERRORS} more {label}")
    first = errors[0]
    location = None if isinstance(first, str) else first.get("loc")
    param = clean_location(location) if isinstance(location, tuple) else None
    return ApiError("\n".join(lines), kind=HTTPStatus.BAD_REQUEST.phrase, param=param)


def printed(value: object) -> str:
    """Return a client's value as text, even if it is nested deeper than Python prints."""
    try:
        return str(value)
    except RecursionError:
        return f"<{type(value).__name__}>"


def clean_location(location: tuple[object, ...]) -> str:
    """Join a pydantic location to a dotted path, without the segments that name pydantic's own types."""
    parts = [str(part) for part in location]
    kept = [part for part in parts if not _BRACKET.search(part) and part.lower() not in _TYPE_WORDS]
    return ".".join(kept or parts)


def sanitised(message: str) -> str:
    """Strip memory addresses, tracebacks and file paths, as vLLM does to every message."""
    message = _MEMORY_ADDRESS.sub(">", message)
    message = _TRACEBACK_LINE.sub("", message)
    message = _SYSTEM_PATH.sub("<path>", message)
    return _FILE_PATH.sub("<path>", message).strip()


def _formatted(error: ErrorDetails | dict[str, object] | str) -> str:
    if isinstance(error, str):
        return _shortened(error, _MAX_ERROR_CHARACTERS)
    shown = dict(error)
    if "input" in shown:
        shown["input"] = _described(shown["input"])
    location = shown.get("loc")
    if isinstance(location, tuple):
        shown["loc"] = clean_location(location)
    return _shortened(str(shown), _MAX_ERROR_CHARACTERS)


def _described(value: object) -> str:
    """Stand in for an offending value: containers by their size, everything else by its start."""
    if isinstance(value, bytes):
        return f"<bytes of {len(value)} bytes>"
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    try:
        text = str(value)
    except ValueError:  # an integer with more digits than Python prints
        return f"<{type(value).__name__}>"
    return _shortened(text, _MAX_INPUT_CHARACTERS)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + _TRUNCATED
