"""Runs one server in this process until it is told to stop: start-up, signals, faults on a timetable, an orderly end."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any

from understudy.server.admin import admin_listener
from understudy.server.application import application
from understudy.server.calm_heap import calm_heap
from understudy.server.death import outlives_its_engine
from understudy.server.engine_clock import engine_clock
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.settings import Settings
from understudy.server.worker import Worker
from understudy.web import RunningServer, bound_socket, cannot_listen, start_server
from understudy.web.tls import tls_context

_log = logging.getLogger(__name__)

LAST_ANSWERS_SECONDS = 5.0
"""How long clients may take to read what they are told of the engine's death."""

SERVER_NAME = "uvicorn"
"""What answers say in their Server header, as vLLM's do."""


async def serve(settings: Settings) -> bool:
    """Serve until SIGINT or SIGTERM, a second one of which ends it at once, or until the engine dies.

    Returns whether that is a success: as from `vllm serve`, the death of an engine is one where there is but one API
    server. Raises UsageError where an address cannot be had, and what `tls_context` raises.
    """
    values = settings.arguments.values
    stop = _stop_signal()
    tls = tls_context(values)
    outlives = outlives_its_engine(settings.environment)
    with _held_address(values) as bound:
        if values["startup"]:
            _log.info("Loading the model: ready in %g s", values["startup"])
            if await _is_set_within(stop, values["startup"]):
                return True
        worker = Worker(settings, engine_clock(asyncio.get_running_loop(), values["time_scale"]))
        try:
            running = await _listen(worker, bound, tls)
            try:
                _log.info("Application startup complete.")
                _log.info("Serving on %s (Press CTRL+C to quit)", address(values, running))
                async with (
                    FaultTimetable(worker, running, application) as timetable,
                    admin_listener(worker, running, timetable),
                ):
                    with calm_heap():
                        await _first_of(
                            [stop.wait()] if outlives else [stop.wait(), worker.death.wait_for_end()]
                        )
                _log.info("Shutting down")
            finally:
                dies = worker.death.has_happened and not stop.is_set()
                await running.drain(LAST_ANSWERS_SECONDS if dies else values["shutdown_timeout"] or 0)
        finally:
            await worker.close()
    _log.info("Application shutdown complete.")
    return not dies or _num_api_servers(values) == 1


async def _listen(worker: Worker, bound: socket.socket | None, tls: ssl.SSLContext | None) -> RunningServer:
    """Accept connections for a worker at an address that is held, or at a path."""
    values = worker.settings.arguments.values
    return await start_server(
        application(worker),
        host=values["host"],
        port=values["port"],
        bound=bound,
        uds=values["uds"],
        ssl_context=tls,
        server_name=SERVER_NAME,
    )


def address(values: Mapping[str, Any], running: RunningServer) -> str:
    """Return where a server is reached."""
    if values["uds"]:
        return f"unix:{values['uds']}"
    scheme = "https" if values["ssl_certfile"] else "http"
    host = f"[{values['host']}]" if ":" in values["host"] else values["host"]
    return f"{scheme}://{host}:{running.port}"


def _stop_signal() -> asyncio.Event:
    """Return an event that the first signal sets; the second is the system's own."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_once() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_once)
    return stop


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def _first_of(waits: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Wait for whatever is over first."""
    tasks = [asyncio.create_task(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _num_api_servers(values: Mapping[str, Any]) -> int:
    """Return how many processes of vLLM would answer HTTP: by default as many as there are engines."""
    return int(values["api_server_count"] or values["data_parallel_size"] or 1)


@contextlib.contextmanager
def _held_address(values: Mapping[str, Any]) -> Iterator[socket.socket | None]:
    """Hold the address from before the model loads, as vLLM does: nobody else can have it, and connections are refused.

    None where the server listens at a path.
    """
    if values["uds"]:
        yield None
        return
    host, port = values["host"], values["port"]
    try:
        bound = bound_socket(host, port)
    except (OSError, OverflowError) as error:
        raise cannot_listen(f"{host or '*'}:{port}", error) from error
    with bound:
        yield bound
