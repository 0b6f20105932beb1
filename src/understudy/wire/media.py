"""Refusals of what a text model cannot take."""

from pydantic import BaseModel

from understudy.wire.errors import refusal
from understudy.wire.limits import ModelLimits

_EFFECTS = {
    "mm_processor_kwargs": "change multimodal preprocessing resource usage",
    "media_io_kwargs": "change multimodal media loading resource usage",
}


def check_media_arguments(request: BaseModel, limits: ModelLimits) -> None:
    """Raise ApiError for arguments to media processing that clients are not trusted with."""
    if limits.trust_request_mm_kwargs:
        return
    for name, effect in _EFFECTS.items():
        if getattr(request, name, None):
            raise refusal(
                f"Per-request {name} are disabled by default because they can {effect}. Start the server with"
                " --trust-request-mm-kwargs only when clients are trusted.",
                name,
            )
