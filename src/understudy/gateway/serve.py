"""Runs one router in this process until it is told to stop: listens, follows its files, drains."""

import asyncio
import contextlib
import logging
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.gateway.admin import ADMIN_HOST, ADMIN_LIMITS, admin_application
from understudy.gateway.application import application
from understudy.gateway.router import Router, Sources
from understudy.gateway.settings import RouteSettings
from understudy.web import RunningServer, start_server
from understudy.web.tls import tls_context

SERVER_NAME = "understudy"
_INTERRUPTED = 128 + signal.SIGINT
START_SECONDS = 2.0
"""How long the first look at the workers may hold up the start: clients find a router that has somebody to ask."""
LOOK_SECONDS = 1.0
"""Time between two looks at the workers' file."""

_log = logging.getLogger(__name__)


async def serve(settings: RouteSettings, sources: Sources) -> None:
    """Route until SIGINT or SIGTERM, then finish what is in work; a second signal ends it at once. SIGHUP reloads.

    Raises UsageError and InputError for settings that cannot be used.
    """
    stop = asyncio.Event()
    async with routing(settings, sources) as (router, running):
        with _signals(stop, lambda: _reload(router)):
            _log.info(
                "Routing on %s by policy %s (Press CTRL+C to quit)",
                address(settings, running),
                settings.policy,
            )
            if not router.fleet.is_ready:
                _log.warning("No worker has answered yet: requests get 503 until one does")
            await stop.wait()
            _log.info("Draining: up to %g s for what is in work", settings.drain_seconds)
            await running.drain(settings.drain_seconds)
    _log.info("Router shutdown complete.")


@contextlib.asynccontextmanager
async def routing(settings: RouteSettings, sources: Sources) -> AsyncIterator[tuple[Router, RunningServer]]:
    """Yield a router that clients can reach, and what they reach it by."""
    tls = _tls(settings)
    router = Router(settings, sources)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(router.close)
        router.follow_workers()
        if len(router.fleet):
            await router.heard_of_all(START_SECONDS)
        running = await start_server(
            application(router),
            host=settings.host,
            port=settings.port,
            ssl_context=tls,
            limits=router.limits,
            server_name=SERVER_NAME,
        )
        stack.push_async_callback(running.drain, 0)
        if settings.admin_port is not None:
            admin_url = await stack.enter_async_context(admin_api(router, settings.admin_port))
            _log.info("Admin API on %s", admin_url)
        following = asyncio.create_task(_follow_file(router))
        stack.callback(following.cancel)
        yield router, running


@contextlib.asynccontextmanager
async def admin_api(router: Router, port: int) -> AsyncIterator[str]:
    """Take orders about a router on a port of the loopback interface, any that is free for 0; yields the address."""
    admin = await start_server(
        admin_application(router), host=ADMIN_HOST, port=port, limits=ADMIN_LIMITS, server_name=SERVER_NAME
    )
    try:
        yield f"http://{ADMIN_HOST}:{admin.port}"
    finally:
        await admin.drain(0)


def address(settings: RouteSettings, running: RunningServer) -> str:
    """Return where clients reach the router."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.ssl_certfile else 'http'}://{host}:{running.port}"


def _tls(settings: RouteSettings) -> ssl.SSLContext | None:
    if settings.ssl_certfile is None:
        return None
    return tls_context(
        {
            "ssl_certfile": str(settings.ssl_certfile),
            "ssl_keyfile": str(settings.ssl_keyfile),
            "ssl_ca_certs": None,
            "ssl_cert_reqs": ssl.CERT_NONE,
            "ssl_ciphers": None,
        }
    )


async def _follow_file(router: Router) -> None:
    """Let the router read the workers' file, if it has one, whenever that has changed; what is wrong with it is told once."""
    seen: tuple[object, ...] = ()
    told = ""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        path = router.settings.workers_file
        if path is None or (found := _state_of(path)) == seen:
            continue
        seen = found
        try:
            router.follow_workers()
        except UnderstudyError as error:
            if str(error) != told:
                told = str(error)
                _log.error("%s; the workers stay as they are", error)
        else:
            told = ""


def _state_of(path: Path) -> tuple[object, ...]:
    """Return what differs when a file has changed."""
    try:
        found = path.stat()
    except OSError as error:
        return path, error.errno
    return path, found.st_ino, found.st_size, found.st_mtime_ns


def _reload(router: Router) -> None:
    try:
        left = router.reload()
    except UnderstudyError as error:
        _log.error("%s; nothing has changed", error)
        return
    _log.info("Settings reloaded%s", f"; only a restart changes {', '.join(left)}" if left else "")


@contextlib.contextmanager
def _signals(stop: asyncio.Event, reload: Callable[[], None]) -> Iterator[None]:
    """Let signals stop and reload; the second one that would stop ends the process where it is."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop_once() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGTERM)
        # Python's own KeyboardInterrupt would be raised within some callback of a connection, and may be lost there.
        loop.add_signal_handler(signal.SIGINT, os._exit, _INTERRUPTED)

    for number in numbers:
        loop.add_signal_handler(number, stop_once)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (*numbers, signal.SIGHUP):
            loop.remove_signal_handler(number)
