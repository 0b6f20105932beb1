"""The messages of a chat as vLLM accepts them: OpenAI's six roles, its own parts and custom roles.

Names, order and requiredness are those of the OpenAI SDK's and vLLM's own types, because validation errors list every
alternative that was tried. Lists of parts are validated when they are first read, as there.
(openai/types/chat of openai-python 3.54; vllm/renderers/chat_utils/types.py, 0.33.0)
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, Required, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict


class PromptCacheBreakpoint(TypedDict, total=False):
    """Where a client wants the prompt to be cached."""

    mode: Required[Literal["explicit"]]
    ttl: Literal["30m", "12h"]


class ChatCompletionContentPartTextParam(TypedDict, total=False):
    """Text."""

    text: Required[str]
    type: Required[Literal["text"]]
    prompt_cache_breakpoint: PromptCacheBreakpoint


class ChatCompletionContentPartRefusalParam(TypedDict, total=False):
    """A refusal of the model."""

    refusal: Required[str]
    type: Required[Literal["refusal"]]


class ImageURL(TypedDict, total=False):
    """An image's address."""

    url: Required[str]
    detail: Literal["auto", "low", "high", "original"]


class ChatCompletionContentPartImageParam(TypedDict, total=False):
    """An image."""

    image_url: Required[ImageURL]
    type: Required[Literal["image_url"]]
    prompt_cache_breakpoint: PromptCacheBreakpoint


class InputAudio(TypedDict, total=False):
    """A sound in base64."""

    data: Required[str]
    format: Required[Literal["wav", "mp3"]]


class ChatCompletionContentPartInputAudioParam(TypedDict, total=False):
    """A sound."""

    input_audio: Required[InputAudio]
    type: Required[Literal["input_audio"]]
    prompt_cache_breakpoint: PromptCacheBreakpoint


class FileFile(TypedDict, total=False):
    """A file's contents or number."""

    file_data: str
    file_id: str
    filename: str


class File(TypedDict, total=False):
    """A file."""

    file: Required[FileFile]
    type: Required[Literal["file"]]
    prompt_cache_breakpoint: PromptCacheBreakpoint


OpenAIContentPart: TypeAlias = (
    ChatCompletionContentPartTextParam
    | ChatCompletionContentPartImageParam
    | ChatCompletionContentPartInputAudioParam
    | File
)


class ChatCompletionDeveloperMessageParam(TypedDict, total=False):
    """Instructions of the developer."""

    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    role: Required[Literal["developer"]]
    name: str


class ChatCompletionSystemMessageParam(TypedDict, total=False):
    """Instructions of the system."""

    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    role: Required[Literal["system"]]
    name: str


class ChatCompletionUserMessageParam(TypedDict, total=False):
    """What the user says."""

    content: Required[str | Iterable[OpenAIContentPart]]
    role: Required[Literal["user"]]
    name: str


class Audio(TypedDict, total=False):
    """An earlier sound of the assistant."""

    id: Required[str]


class FunctionCall(TypedDict, total=False):
    """A call of a function, in the deprecated form."""

    arguments: Required[str]
    name: Required[str]


class Function(TypedDict, total=False):
    """A called function."""

    arguments: Required[str]
    name: Required[str]


class ChatCompletionMessageFunctionToolCallParam(TypedDict, total=False):
    """A call of a function."""

    id: Required[str]
    function: Required[Function]
    type: Required[Literal["function"]]


class Custom(TypedDict, total=False):
    """A called custom tool."""

    input: Required[str]
    name: Required[str]


class ChatCompletionMessageCustomToolCallParam(TypedDict, total=False):
    """A call of a custom tool."""

    id: Required[str]
    custom: Required[Custom]
    type: Required[Literal["custom"]]


class ChatCompletionAssistantMessageParam(TypedDict, total=False):
    """What the assistant said."""

    role: Required[Literal["assistant"]]
    audio: Audio | None
    content: str | Iterable[ChatCompletionContentPartTextParam | ChatCompletionContentPartRefusalParam] | None
    function_call: FunctionCall | None
    name: str
    refusal: str | None
    tool_calls: Iterable[
        ChatCompletionMessageFunctionToolCallParam | ChatCompletionMessageCustomToolCallParam
    ]


class ChatCompletionToolMessageParam(TypedDict, total=False):
    """What a tool answered."""

    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    role: Required[Literal["tool"]]
    tool_call_id: Required[str]


class ChatCompletionFunctionMessageParam(TypedDict, total=False):
    """What a function answered, in the deprecated form."""

    content: Required[str | None]
    name: Required[str]
    role: Required[Literal["function"]]


class AudioURL(TypedDict, total=False):
    """A sound's address."""

    url: Required[str]


class ChatCompletionContentPartAudioParam(TypedDict, total=False):
    """A sound by its address."""

    audio_url: Required[AudioURL]
    type: Required[Literal["audio_url"]]


Embeds: TypeAlias = str | dict[str, str | list[int | float]]


class ChatCompletionContentPartImageEmbedsParam(TypedDict, total=False):
    """An image as embeddings."""

    image_embeds: Embeds | None
    type: Required[Literal["image_embeds"]]
    uuid: str | None


class ChatCompletionContentPartAudioEmbedsParam(TypedDict, total=False):
    """A sound as embeddings."""

    audio_embeds: Embeds | None
    type: Required[Literal["audio_embeds"]]
    uuid: str | None


class ChatCompletionContentPartVideoEmbedsParam(TypedDict, total=False):
    """A film as embeddings."""

    video_embeds: Embeds | None
    audio_embeds: Embeds | None
    type: Required[Literal["video_embeds"]]
    uuid: str | None


class ChatCompletionContentPartPromptEmbedsParam(TypedDict, total=False):
    """Text as embeddings."""

    data: Required[str]
    type: Required[Literal["prompt_embeds"]]


class VideoURL(TypedDict, total=False):
    """A film's address."""

    url: Required[str]


class ChatCompletionContentPartVideoParam(TypedDict, total=False):
    """A film by its address."""

    video_url: Required[VideoURL]
    type: Required[Literal["video_url"]]


class Image:
    """An image in memory: none can come over the wire."""


class PILImage(BaseModel):
    """An image in memory."""

    image_pil: Image
    model_config = ConfigDict(arbitrary_types_allowed=True)


class CustomChatCompletionContentPILImageParam(TypedDict, total=False):
    """An image in memory."""

    image_pil: PILImage | None
    uuid: str | None


class CustomChatCompletionContentSimpleImageParam(TypedDict, total=False):
    """An image by a bare address."""

    image_url: str | None
    uuid: str | None


class CustomChatCompletionContentSimpleAudioParam(TypedDict, total=False):
    """A sound by a bare address."""

    audio_url: str | None


class CustomChatCompletionContentSimpleVideoParam(TypedDict, total=False):
    """A film by a bare address."""

    video_url: str | None
    uuid: str | None


class CustomThinkCompletionContentParam(TypedDict, total=False):
    """What the model thought."""

    thinking: Required[str]
    closed: bool
    type: Required[Literal["thinking"]]


class CustomChatCompletionContentToolReferenceParam(TypedDict, total=False):
    """A tool by its name."""

    name: str
    type: Literal["tool_reference"]


ContentPart: TypeAlias = (
    OpenAIContentPart
    | ChatCompletionContentPartAudioParam
    | ChatCompletionContentPartInputAudioParam
    | ChatCompletionContentPartVideoParam
    | ChatCompletionContentPartRefusalParam
    | CustomChatCompletionContentPILImageParam
    | CustomChatCompletionContentSimpleImageParam
    | ChatCompletionContentPartImageEmbedsParam
    | ChatCompletionContentPartAudioEmbedsParam
    | ChatCompletionContentPartVideoEmbedsParam
    | ChatCompletionContentPartPromptEmbedsParam
    | CustomChatCompletionContentSimpleAudioParam
    | CustomChatCompletionContentSimpleVideoParam
    | CustomChatCompletionContentToolReferenceParam
    | str
    | CustomThinkCompletionContentParam
)


class OfferedFunction(TypedDict, total=False):
    """A function that a developer message offers."""

    name: Required[str]
    description: str
    parameters: dict[str, object]
    strict: bool | None


class ChatCompletionFunctionToolParam(TypedDict, total=False):
    """A tool that a developer message offers."""

    function: Required[OfferedFunction]
    type: Required[Literal["function"]]


class CustomChatCompletionMessageParam(TypedDict, total=False):
    """A message of any role."""

    role: Required[str]
    content: str | list[ContentPart]
    name: str
    tool_call_id: str | None
    tool_calls: list[ChatCompletionMessageFunctionToolCallParam] | None
    reasoning: str | ChatCompletionContentPartPromptEmbedsParam | None
    tools: list[ChatCompletionFunctionToolParam] | None
    task: str | None


class Role(StrEnum):
    """The roles of a Harmony message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    DEVELOPER = "developer"
    TOOL = "tool"

    @classmethod
    def _missing_(cls, value: object) -> "Role":
        raise ValueError(f"Unknown role: {value!r}")


class Author(BaseModel):
    """Who wrote a Harmony message."""

    role: Role
    name: str | None = None


class Content(BaseModel):
    """A part of a Harmony message."""


class Message(BaseModel):
    """A Harmony message: gpt-oss's own format."""

    author: Author
    content: list[Content] = Field(default_factory=list)
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None


ChatMessageParam: TypeAlias = (
    ChatCompletionDeveloperMessageParam
    | ChatCompletionSystemMessageParam
    | ChatCompletionUserMessageParam
    | ChatCompletionAssistantMessageParam
    | ChatCompletionToolMessageParam
    | ChatCompletionFunctionMessageParam
    | CustomChatCompletionMessageParam
    | Message
)

Conversation: TypeAlias = list[dict[str, Any]]
"""Messages as a chat template reads them: role, content, and what else there is."""
