"""One worker, as the router knows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from understudy.engine import LoRA
from understudy.gateway.upstream import Upstream


def _nothing() -> None:
    return None


@dataclass(slots=True, eq=False)
class Member:
    """A worker of the fleet: `name` is its URL without a trailing slash, `slot` its place in the router's state."""

    name: str
    slot: int
    upstream: Upstream
    models: Mapping[str, LoRA | None] = field(default_factory=dict)
    """Models and adapters by the names that requests use; empty until they are known."""
    is_draining: bool = False
    """Whether it gets no more requests."""
    on_left: Callable[[], None] = _nothing
    """Called when it leaves the fleet."""
