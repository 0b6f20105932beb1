"""What the handlers of a server share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from understudy.engine import EngineConfig
from understudy.server.faults import FaultInjector
from understudy.server.frontend import Frontend
from understudy.server.generate import Generator
from understudy.server.metrics import ServerMetrics
from understudy.tokenize import Tokenizer
from understudy.wire.limits import ModelLimits


@dataclass(slots=True)
class Adapter:
    """A LoRA adapter that was loaded: its number, which events carry, and where it came from."""

    name: str
    path: str
    number: int
    base_model: str | None = None


@dataclass(slots=True)
class ServedModels:
    """The names under which the model is served, the first of which answers carry, and the adapters beside it."""

    names: tuple[str, ...]
    root: str
    max_model_len: int
    adapters: dict[str, Adapter] = field(default_factory=dict)


@dataclass(slots=True)
class ServerContext:
    """One server. `arguments` are the values of vLLM's flags, by their names in vLLM; `environment` the process's.

    `base_limits` are those of a server without adapters, `seed` the server's for all that is random.
    """

    arguments: Mapping[str, Any]
    environment: Mapping[str, str]
    engine_config: EngineConfig
    frontend: Frontend
    tokenizer: Tokenizer
    generator: Generator
    metrics: ServerMetrics
    models: ServedModels
    base_limits: ModelLimits
    faults: FaultInjector
    system_fingerprint: str | None = None
    seed: int = 0
    chat_template: str | None = None
    _frozen_page: bytes | None = None

    @property
    def limits(self) -> ModelLimits:
        """What requests are judged by now."""
        if not self.models.adapters:
            return self.base_limits
        return replace(self.base_limits, lora_names=frozenset(self.models.adapters))

    def metrics_page(self) -> bytes:
        """Return the page of metrics; while a fault freezes it, what it was when the fault began."""
        if not self.faults.metrics_are_frozen():
            self._frozen_page = None
            return self.metrics.page()
        if self._frozen_page is None:
            self._frozen_page = self.metrics.page()
        return self._frozen_page


CONTEXT: web.AppKey[ServerContext] = web.AppKey("context", ServerContext)


def context_of(request: web.Request) -> ServerContext:
    """Return the context of the server that got a request."""
    return request.app[CONTEXT]
