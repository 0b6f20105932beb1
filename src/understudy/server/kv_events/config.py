"""What `--kv-events-config` may say: vLLM's fields, defaults and names (vllm/config/kv_events.py, 0.33.0)."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from understudy.errors import UsageError

FLAG = "--kv-events-config"

_INT_HASHES = "VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES"

_HALF_OF_INT_MAX = 2**30 - 1
"""The replay socket's high-water mark is twice `buffer_steps` and a bit more, and must remain a C int."""

Count = Annotated[int, msgspec.Meta(ge=0, le=_HALF_OF_INT_MAX)]


class KVEventsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and where KV events are published, and how many batches are kept for replay.

    `publisher` None means "zmq" where events are enabled, else "null". `max_queue_size` is only shown: batches do
    not wait in a queue here.
    """

    enable_kv_cache_events: bool = False
    publisher: Literal["null", "zmq"] | None = None
    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    buffer_steps: Count = 10_000
    hwm: Count = 100_000
    max_queue_size: Count = 100_000
    topic: str = ""

    def __post_init__(self) -> None:
        if self.publisher is None:
            msgspec.structs.force_setattr(self, "publisher", "zmq" if self.enable_kv_cache_events else "null")

    @property
    def publishes(self) -> bool:
        """Whether there is anything to publish with."""
        return self.enable_kv_cache_events and self.publisher == "zmq"


def read_kv_events_config(fields: object) -> KVEventsConfig:
    """Return the flag's JSON value as a configuration; raises UsageError that names the field."""
    try:
        return msgspec.convert(fields, KVEventsConfig)
    except msgspec.ValidationError as error:
        accepted = ", ".join(KVEventsConfig.__struct_fields__)
        raise UsageError(f"{FLAG}: {error}; accepted is a JSON object with {accepted}") from error


def uses_int_block_hashes(environ: Mapping[str, str]) -> bool:
    """Return whether block hashes go out as integers: unless VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES is 0."""
    value = environ.get(_INT_HASHES, "1")
    try:
        return bool(int(value))
    except ValueError:
        raise UsageError(f"{_INT_HASHES} must be 0 or 1, not {value!r}") from None
