"""Fields that the bodies of completions and of chats share, in three runs that stand together in both.

A body inherits the runs, and has runs of its own between them. pydantic lists the fields of the last base first, so the
bases are named from the last run to the first. The order is vLLM's: its errors follow it.
(vllm/entrypoints/openai: completion/protocol.py and chat_completion/protocol.py, 0.33.0)
"""

from typing import Any, Literal

from pydantic import Field

from understudy.wire.fields import (
    Priority,
    RepetitionDetectionParams,
    StructuredOutputsParams,
    TruncatePromptTokens,
    VllmXargs,
    WireModel,
)


class DecodingFields(WireModel):
    """How tokens are chosen, when the answer ends and how it is turned into text."""

    use_beam_search: bool = False
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    watermarking: bool | None = None
    length_penalty: float = 1.0
    stop_token_ids: list[int] | None = Field(default_factory=list)
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: TruncatePromptTokens = None
    truncation_side: Literal["left", "right"] | None = None


class TellingFields(WireModel):
    """What the request is called, when its turn comes, and what is told beside the text."""

    structured_outputs: StructuredOutputsParams | None = None
    priority: Priority = 0
    request_id: str = ""
    session_id: str | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    return_weight_versions: bool = False
    routed_experts_prompt_start: int = Field(default=0, ge=0)
    return_token_offsets: bool | None = False


class CacheFields(WireModel):
    """What the cache and other engines have to do with the request, and arguments for extensions."""

    mm_payload: Literal["tensors", "none"] = "tensors"
    return_mm_kwargs: bool | None = None
    cache_salt: str | None = Field(default=None, min_length=1, max_length=1024)
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    vllm_xargs: VllmXargs | None = None
    repetition_detection: RepetitionDetectionParams | None = None
