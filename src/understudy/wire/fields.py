"""Parts that several request bodies share: their names, types and order are vLLM's, because its errors spell them out.

(vllm/entrypoints/generate/base/protocol.py and vllm/sampling_params.py, 0.33.0)
"""

import json as json_text
from dataclasses import field
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ModelWrapValidatorHandler, model_validator
from pydantic.dataclasses import dataclass

from understudy.wire.errors import ApiError, printed, refusal
from understudy.wire.limits import (
    INT64_MAX,
    INT64_MIN,
    MAX_CACHE_SALT_CHARACTERS,
    MAX_SCHEMA_NESTING,
    MAX_STOP_STRINGS,
    STRUCTURAL_TAG_WRAPPER_NESTING,
)

RawBody: TypeAlias = Any  # JSON before validation: anything can come

_SALT_FORBIDS = frozenset("@/\\\x00")


class WireModel(BaseModel):
    """A request body: unknown fields are kept and ignored."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="wrap")
    @classmethod
    def _unnamed(cls, data: RawBody, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Change nothing: a wrapped model is told by no name in the locations of errors, as none of vLLM's is."""
        return handler(data)


class StreamOptions(WireModel):
    """What a stream tells beside its text."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class JsonSchemaResponseFormat(WireModel):
    """A named JSON schema that the answer must obey."""

    name: str
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class LegacyStructuralTag(WireModel):
    """One tag of a legacy structural tag format."""

    begin: str
    structural_tag_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    end: str


class LegacyStructuralTagResponseFormat(WireModel):
    """Free text in which triggers start structures."""

    type: Literal["structural_tag"]
    structures: list[LegacyStructuralTag]
    triggers: list[str]


class StructuralTagResponseFormat(WireModel):
    """Free text with structure, in xgrammar's format."""

    type: Literal["structural_tag"]
    format: Any


class ResponseFormat(WireModel):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaResponseFormat | None = None


AnyResponseFormat: TypeAlias = (
    ResponseFormat | StructuralTagResponseFormat | LegacyStructuralTagResponseFormat
)


@dataclass
class StructuredOutputsParams:
    """The constraint on an answer: exactly one of the six kinds, and options."""

    json: str | dict[Any, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    structural_tag: str | None = None
    _backend: str | None = field(default=None, init=False)
    _backend_was_auto: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        kinds = (self.json, self.regex, self.choice, self.grammar, self.json_object, self.structural_tag)
        count = sum(kind is not None for kind in kinds)
        if count > 1:
            raise refusal(
                "You can only use one kind of structured outputs constraint but multiple are specified:"
                f" {printed(self.__dict__)}"
            )
        if count < 1:
            raise refusal(
                f"You must use one kind of structured outputs constraint but none are specified: {self.__dict__}"
            )

    def verify(self) -> None:
        """Raise ApiError for a constraint that no backend takes. Grammars, schemas and regexes are not compiled."""
        if self.choice is not None and not self.choice:
            raise refusal(f"Choice '{self.choice}' cannot be an empty list")
        if self.grammar is not None and not self.grammar.strip():
            raise refusal("structured_outputs.grammar cannot be an empty string")
        if isinstance(self.json, str) and not self.json.strip():
            raise refusal("structured_outputs.json cannot be an empty string")
        check_nesting(self.json)
        check_nesting(self.structural_tag, structural_tag=True)
        if self.json_object is False:
            raise refusal(
                "structured_outputs.json_object must be True if set; omit structured_outputs to disable structured"
                " outputs"
            )
        if self.regex and "\x00" in self.regex:
            raise refusal("structured_outputs.regex must not contain a NUL character ('\\x00')")
        if self.structural_tag is not None and not self.structural_tag.strip():
            raise refusal("structured_outputs.structural_tag cannot be an empty string")
        if isinstance(self.json, str):
            try:
                json_text.loads(self.json)
            except ValueError:
                raise refusal("Invalid JSON grammar specification.") from None


@dataclass
class RepetitionDetectionParams:
    """When a repeating answer is cut short."""

    max_pattern_size: int = 0
    min_pattern_size: int = 0
    min_count: int = 0

    def __post_init__(self) -> None:
        if self.max_pattern_size < 0 or not 0 <= self.min_pattern_size <= self.max_pattern_size:
            raise refusal(
                "max_pattern_size, min_pattern_size must be >=0, with min_pattern_size <= max_pattern_size. Set both"
                " to 0 to disable repetitive pattern detection."
            )
        if self.max_pattern_size > 0 and self.min_count < 2:
            raise refusal(
                "min_count must be >= 2 to detect repetitive patterns in engine output. If you do not wish to detect"
                " repetitive patterns, set max_pattern_size to 0."
            )


def _thinking_token_budget(value: RawBody) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise refusal(
            "`thinking_token_budget` must be a non-negative integer or -1 for unlimited.",
            "thinking_token_budget",
            value,
        )
    return None if value == -1 else value


StopParam: TypeAlias = str | Annotated[list[str], Field(max_length=MAX_STOP_STRINGS)] | None
ThinkingTokenBudget: TypeAlias = Annotated[int | None, BeforeValidator(_thinking_token_budget)]
TopLogprobsParam: TypeAlias = Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)]
Seed: TypeAlias = Annotated[int | None, Field(ge=INT64_MIN, le=INT64_MAX)]
Priority: TypeAlias = Annotated[int, Field(ge=INT64_MIN, le=INT64_MAX)]
TruncatePromptTokens: TypeAlias = Annotated[int, Field(ge=-1, le=INT64_MAX)] | None
VllmXargs: TypeAlias = dict[str, str | int | float | list[str | int | float]]


def check_cache_salt(data: RawBody) -> None:
    """Raise ApiError for a salt that downstream caches could misread."""
    salt = data.get("cache_salt")
    if salt is None:
        return
    if not isinstance(salt, str) or not salt:
        raise refusal("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")
    if len(salt) > MAX_CACHE_SALT_CHARACTERS or not _SALT_FORBIDS.isdisjoint(salt):
        raise refusal(
            "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL.",
            "cache_salt",
        )


def check_response_format(data: RawBody) -> None:
    """Raise ApiError for a schema format without a schema and for a structural tag that is none."""
    response_format = data.get("response_format")
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_schema" and response_format.get("json_schema") is None:
        raise refusal(
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
            "response_format",
        )
    if kind == "structural_tag":
        if _nests_deeper(response_format, MAX_SCHEMA_NESTING + STRUCTURAL_TAG_WRAPPER_NESTING):
            raise _too_deep()
        if "format" not in response_format and not _is_legacy_tag(response_format):
            raise refusal("Invalid response_format structural_tag specification.", "response_format")


def _is_legacy_tag(response_format: dict[str, Any]) -> bool:
    """Whether there are structures and something that triggers them."""
    structures, triggers = response_format.get("structures"), response_format.get("triggers")
    return isinstance(structures, list) and isinstance(triggers, list) and bool(structures and triggers)


def check_structural_tag(structured_outputs: RawBody) -> None:
    """Raise ApiError for an empty or too deep structural tag among the structured outputs."""
    tag = structured_outputs.get("structural_tag")
    if tag is None:
        return
    if isinstance(tag, str) and tag:
        check_nesting(tag, structural_tag=True)
        try:
            is_object = isinstance(json_text.loads(tag), dict)
        except (ValueError, RecursionError):
            is_object = False
        if is_object:
            return
    raise refusal("Invalid structured_outputs structural_tag specification.", "structured_outputs")


def check_stream_options(data: RawBody) -> None:
    """Raise ApiError for stream options without a stream."""
    if data.get("stream_options") and not data.get("stream"):
        raise refusal("Stream options can only be defined when `stream=True`.", "stream_options")


def check_logprob_counts(data: RawBody, name: str) -> None:
    """Raise ApiError for counts of log probabilities that are no numbers or out of range."""
    for field_name in ("prompt_logprobs", name):
        value = data.get(field_name)
        if value is not None and not isinstance(value, int | float):
            raise refusal(f"`{field_name}` must be an integer.", field_name, value)
    prompt_logprobs = data.get("prompt_logprobs")
    if prompt_logprobs is not None:
        if data.get("stream") and (prompt_logprobs > 0 or prompt_logprobs == -1):
            raise refusal("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
        _check_count("prompt_logprobs", prompt_logprobs)
    if data.get(name) is not None:
        _check_count(name, data[name])


def _check_count(name: str, value: float) -> None:
    if value < 0 and value != -1:
        raise refusal(f"`{name}` must be a positive value or -1.", name, value)


def check_nesting(spec: str | dict[Any, Any] | None, *, structural_tag: bool = False) -> None:
    """Raise ApiError for a schema whose conversion to a grammar would take too long."""
    limit = MAX_SCHEMA_NESTING + (STRUCTURAL_TAG_WRAPPER_NESTING if structural_tag else 0)
    if spec and _nests_deeper(spec, limit):
        raise _too_deep()


def _too_deep() -> ApiError:
    return refusal(
        f"The JSON schema is nested too deeply: objects and arrays may nest at most {MAX_SCHEMA_NESTING} levels"
    )


def _nests_deeper(spec: str | dict[Any, Any], limit: int) -> bool:
    root: object = spec
    if isinstance(spec, str):
        try:
            root = json_text.loads(spec)
        except RecursionError:
            return True
        except ValueError:
            return False
    level = [root]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def constraint(
    structured_outputs: StructuredOutputsParams | None, response_format: AnyResponseFormat | None
) -> StructuredOutputsParams | None:
    """Return what an answer must obey: the response format, if it demands something, replaces a JSON constraint."""
    if response_format is None or response_format.type == "text":
        return structured_outputs
    override: dict[str, Any]
    if isinstance(response_format, ResponseFormat):
        schema = response_format.json_schema
        override = (
            {"json_object": True}
            if response_format.type == "json_object" or schema is None
            else {"json": schema.json_schema}
        )
    else:
        override = {"structural_tag": json_text.dumps(response_format.model_dump(by_alias=True))}
    if structured_outputs is not None:
        names = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
        kept = {name: value for name in names if (value := getattr(structured_outputs, name)) is not None}
        override = {**kept, **override}
    return StructuredOutputsParams(**override)
