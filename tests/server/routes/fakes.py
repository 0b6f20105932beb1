"""A server's context without engines, and the application of the operator's routes around it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from understudy.engine import EngineConfig, PauseScope
from understudy.server.context import CONTEXT, ServedModels, ServerContext
from understudy.server.faults import FaultInjector, FaultPlan
from understudy.server.power import POWER, Power
from understudy.server.routes import info, lora, operator, server_info, weights
from understudy.server.routes.adapters import AdapterTable
from understudy.server.routes.info import SERVER_LOAD, ServerLoad
from understudy.server.routes.weights import WEIGHTS, Weights
from understudy.wire.limits import ModelLimits

Client = TestClient[web.Request, web.Application]


class FakeFrontend:
    """Requests that run until somebody finishes them, and requests that wait while a pause keeps them out."""

    def __init__(self) -> None:
        self.is_dead = False
        self.scope: PauseScope = "none"
        self.running: list[str] = []
        self.waiting: list[str] = []
        self.aborted: list[str] = []
        self.resets: list[bool] = []
        self._changed = asyncio.Event()

    def add(self, request_id: str) -> None:
        """Take a request, which runs at once unless paused."""
        (self.running if self.scope == "none" else self.waiting).append(request_id)

    def finish_running(self) -> None:
        """Let everything that runs come to its end."""
        self.running.clear()
        self._changed.set()

    @property
    def num_unfinished_requests(self) -> int:
        """Requests in work."""
        return len(self.running) + len(self.waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is computed."""
        return self.scope == "all" or not self.running

    def set_pause(self, scope: PauseScope) -> None:
        """Leave alone what is in scope."""
        self.scope = scope
        if scope == "none":
            self.running += self.waiting
            self.waiting.clear()
        self._changed.set()

    async def idle(self) -> None:
        """Wait until nothing is computed."""
        while not self.is_idle:
            self._changed.clear()
            await self._changed.wait()

    def abort_all(self) -> None:
        """End everything, as a pause does."""
        self.abort_prompts(None)

    def abort_prompts(self, request_ids: list[str] | None) -> None:
        """End requests."""
        ended = self.running + self.waiting if request_ids is None else request_ids
        self.aborted += ended
        self.running = [each for each in self.running if each not in ended]
        self.waiting = [each for each in self.waiting if each not in ended]
        self._changed.set()

    def reset_prefix_cache(self, *, reset_running_requests: bool = False) -> bool:
        """Forget the cache unless requests hold blocks."""
        self.resets.append(reset_running_requests)
        return reset_running_requests or not self.running


class FakeMetrics:
    """A page of metrics."""

    def page(self) -> bytes:
        """Return it."""
        return b"understudy 1.0\n"


class FakeServer:
    """One context and what belongs to it. Make it within a running event loop."""

    def __init__(
        self, arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.frontend = FakeFrontend()
        self.sleep_levels: list[int | None] = []
        self.power = Power(self.frontend, self.sleep_levels.append)
        models = ServedModels(("m",), "model-root", 4096, AdapterTable())
        self.context = ServerContext(
            arguments={"enable_lora": True} if arguments is None else arguments,
            environment={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if environment is None else environment,
            engine_config=EngineConfig(num_gpu_blocks=100, max_model_len=4096),
            frontend=cast("Any", self.frontend),
            tokenizer=cast("Any", None),
            generator=cast("Any", None),
            metrics=cast("Any", FakeMetrics()),
            models=models,
            base_limits=ModelLimits(4096, 32000, 31999, models.names),
            faults=FaultInjector(FaultPlan(), lambda: 0.0),
        )
        self.app = web.Application()
        self.app[CONTEXT] = self.context
        self.app[POWER] = self.power
        self.app[WEIGHTS] = Weights()
        self.app[SERVER_LOAD] = ServerLoad(is_enabled=True)
        for routes in (info, operator, weights, server_info, lora):
            self.app.add_routes(routes.ROUTES)


def serve(
    test: Callable[[FakeServer, Client], Awaitable[None]],
    *,
    make: Callable[..., FakeServer] = FakeServer,
    **settings: Mapping[str, Any],
) -> None:
    """Run a test against a fake server on this machine."""

    async def run() -> None:
        server = make(**settings)
        async with TestClient(TestServer(server.app)) as client:
            await test(server, client)

    asyncio.run(run())
