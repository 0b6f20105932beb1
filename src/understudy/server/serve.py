"""Runs one server in this process until it is told to stop: start-up, signals, faults on a timetable, an orderly end."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from understudy.errors import InputError, UsageError
from understudy.server.admin import admin_listener
from understudy.server.application import application
from understudy.server.calm_heap import calm_heap
from understudy.server.engine_clock import engine_clock
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.http import RunningServer, start_server
from understudy.server.settings import Settings
from understudy.server.worker import Worker

_log = logging.getLogger(__name__)

SERVER_NAME = "uvicorn"
"""What answers say in their Server header, as vLLM's do."""


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends it at once. Raises UsageError where an address cannot be had."""
    values = settings.arguments.values
    stop = _stop_signal()
    with _held_port(values):
        if values["startup"]:
            _log.info("Loading the model: ready in %g s", values["startup"])
            if await _is_set_within(stop, values["startup"]):
                return
    clock = engine_clock(asyncio.get_running_loop(), values["time_scale"])
    worker = Worker(settings, clock)
    try:
        running = await listen(worker)
        try:
            _log.info("Application startup complete.")
            _log.info("Serving on %s (Press CTRL+C to quit)", address(values, running))
            async with (
                FaultTimetable(worker, running, application) as timetable,
                admin_listener(worker, running, timetable),
            ):
                with calm_heap():
                    await stop.wait()
            _log.info("Shutting down")
        finally:
            await running.drain(values["shutdown_timeout"] or 0)
    finally:
        await worker.close()
    _log.info("Application shutdown complete.")


async def listen(worker: Worker) -> RunningServer:
    """Open the address that the settings name for the application of a server."""
    values = worker.settings.arguments.values
    return await start_server(
        application(worker),
        host=values["host"],
        port=values["port"],
        uds=values["uds"],
        ssl_context=_ssl_context(values),
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


@contextlib.contextmanager
def _held_port(values: Mapping[str, Any]) -> Iterator[None]:
    """Hold the port while the model loads, as vLLM does: nobody else can have it, and connections are refused."""
    if values["uds"] or not values["port"]:
        yield
        return
    family = socket.AF_INET6 if ":" in values["host"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((values["host"], values["port"]))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {values['host']}:{values['port']}: {error.strerror}"
            ) from error
        except OverflowError:
            raise UsageError(f"--port must be from 0 to 65535, got {values['port']}") from None
        yield


def _ssl_context(values: Mapping[str, Any]) -> ssl.SSLContext | None:
    if not values["ssl_certfile"]:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(values["ssl_certfile"], values["ssl_keyfile"])
        context.verify_mode = ssl.VerifyMode(values["ssl_cert_reqs"])
        if values["ssl_ca_certs"]:
            context.load_verify_locations(values["ssl_ca_certs"])
        if values["ssl_ciphers"]:
            context.set_ciphers(values["ssl_ciphers"])
    except (OSError, ssl.SSLError, ValueError) as error:
        raise InputError(
            f"the TLS certificate, key, authorities or ciphers cannot be used: {error}"
        ) from error
    return context
