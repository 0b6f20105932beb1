"""A server in process, as a test holds it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from understudy.errors import InputError
from understudy.server.faults import Fault, FaultPlan
from understudy.testing.clock_handle import ClockHandle
from understudy.testing.live_server import LiveServer
from understudy.testing.loop_thread import LoopThread
from understudy.testing.metric_values import MetricValues
from understudy.testing.request_log import ArrivedRequest

HOST = "127.0.0.1"
ARRIVAL_SECONDS = 10.0
"""How long a request that a test has sent may take to arrive, by the wall clock."""

Faults = FaultPlan | Mapping[str, Any] | Sequence[Fault | Mapping[str, Any]]
"""A plan, or only its faults; as objects, or as they stand in a plan's JSON."""


class FaultsHandle:
    """What goes wrong on purpose; seconds are those of the server's clock."""

    def __init__(self, thread: LoopThread, server: LiveServer) -> None:
        self._thread = thread
        self._server = server

    @property
    def plan(self) -> FaultPlan:
        """The plan of now."""
        return self._server.worker.faults.plan

    def set(self, faults: Faults) -> None:
        """Replace the plan; what holds now has begun when this returns. Raises InputError for what is no plan."""
        self._thread.call(self._server.set_faults(_plan(faults)))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.set(FaultPlan())


class ServerHandle:
    """One emulated worker on a port of 127.0.0.1. Any thread may call, at any time until it is closed."""

    def __init__(
        self,
        thread: LoopThread,
        server: LiveServer,
        clock: ClockHandle,
        *,
        restart: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.faults = FaultsHandle(thread, server)
        self.model = server.worker.settings.served_model_names[0]
        self.url = f"http://{HOST}:{server.running.port}"
        self.base_url = f"{self.url}/v1"
        self.admin_url = None if server.admin is None else f"http://{HOST}:{server.admin.port}"
        self._thread = thread
        self._server = server
        self._restart = restart
        self._close = close

    @property
    def kv_events_endpoint(self) -> str | None:
        """Where the KV events of the first rank are published, None without `--kv-events-config`."""
        publishers = self._server.worker.publishers
        return publishers[0].config.endpoint if publishers else None

    @property
    def requests(self) -> tuple[ArrivedRequest, ...]:
        """What has arrived since the start or the last reset, the latest 10,000."""

        async def requests() -> tuple[ArrivedRequest, ...]:
            return self._server.log.requests()

        return self._thread.call(requests())

    def wait_for_requests(self, count: int, timeout_seconds: float = ARRIVAL_SECONDS) -> None:
        """Wait until so many requests have arrived since the start or the last reset, and are queued or answered.

        GET, HEAD and OPTIONS do not count. Raises TimeoutError where they do not come in time, by the wall clock.
        """

        async def wait() -> None:
            async with asyncio.timeout(timeout_seconds):
                await self._server.log.until(count)
            await self._thread.loop.quiet()

        try:
            self._thread.call(wait())
        except TimeoutError:
            arrived = self._server.log.num_arrived
            raise TimeoutError(
                f"{arrived} of {count} requests arrived within {timeout_seconds:g} seconds"
            ) from None

    def metrics(self) -> MetricValues:
        """Return what GET /metrics shows now."""

        async def page() -> bytes:
            return self._server.worker.context.metrics_page()

        return MetricValues(self._thread.call(page()).decode())

    def reset(self) -> None:
        """Be as at the start, at the same addresses: cold cache, counters at 0, no requests in work, the first faults.

        Open connections break. A clock that no other server shares is at 0 again.
        """
        self._restart()

    def close(self) -> None:
        """Serve no more; may be called again."""
        self._close()


def _plan(faults: Faults) -> FaultPlan:
    try:
        given = msgspec.to_builtins(faults)
        return msgspec.convert(given if isinstance(given, Mapping) else {"faults": given}, FaultPlan)
    except (msgspec.ValidationError, TypeError) as error:
        is_one_fault = (isinstance(faults, Mapping) and "kind" in faults) or not isinstance(
            faults, Mapping | Sequence
        )
        hint = '; give a list of faults, as in [{"kind": "error"}]' if is_one_fault else ""
        raise InputError(f"this is no fault plan: {error}{hint}") from error
