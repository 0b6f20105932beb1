"""The models and adapters that a worker serves, from its answer to GET /v1/models."""

import msgspec

from understudy.engine import LoRA
from understudy.errors import InputError

_MOST_MODELS = 10_000


class _Card(msgspec.Struct):
    id: str
    root: str | None = None
    parent: str | None = None


class _Models(msgspec.Struct):
    data: list[_Card]


_decode = msgspec.json.Decoder(_Models).decode


def read_models(body: bytes) -> dict[str, LoRA | None]:
    """Return the names that requests may use; an adapter where a name means one, None where it means the model itself.

    Raises InputError for what is no such answer.
    """
    try:
        cards = _decode(body).data
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"gives a malformed answer to /v1/models: {' '.join(str(error).split())}") from None
    if len(cards) > _MOST_MODELS:
        raise InputError(f"names {len(cards)} models in /v1/models, more than {_MOST_MODELS}")
    return {card.id: None if card.parent is None else LoRA(card.id, card.root or "") for card in cards}
