"""The answer of /v1/models.

(vllm/entrypoints/openai/models, 0.33.0)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.wire.errors import compact_json
from understudy.wire.limits import ModelLimits


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """A LoRA adapter; `base_model` is the served name that it belongs to, the first if None."""

    name: str
    path: str
    base_model: str | None = None


def models_body(
    limits: ModelLimits,
    root: str,
    adapters: Sequence[LoadedAdapter],
    created: int,
    permission_ids: Iterator[str],
) -> bytes:
    """Return the list of models: a card for every served name, then one for every adapter.

    vLLM makes cards anew each time: `created` is the time in seconds, `permission_ids` give 16 hex digits each.
    """
    first = limits.served_model_names[0]
    cards = [
        _card(name, created, next(permission_ids), root=root, max_model_len=limits.max_model_len)
        for name in limits.served_model_names
    ]
    cards.extend(
        _card(
            adapter.name,
            created,
            next(permission_ids),
            root=adapter.path,
            parent=adapter.base_model or first,
        )
        for adapter in adapters
    )
    return compact_json({"object": "list", "data": cards})


def _card(
    name: str,
    created: int,
    permission_id: str,
    *,
    root: str,
    parent: str | None = None,
    max_model_len: int | None = None,
) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [
            {
                "id": f"modelperm-{permission_id}",
                "object": "model_permission",
                "created": created,
                "allow_create_engine": False,
                "allow_sampling": True,
                "allow_logprobs": True,
                "allow_search_indices": False,
                "allow_view": True,
                "allow_fine_tuning": False,
                "organization": "*",
                "group": None,
                "is_blocking": False,
            }
        ],
    }
