"""Tries to reach an endpoint that nobody answers at, without hearing anything from it."""

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

from understudy.gateway.kv_events.rank_stream import Context

_RECONNECT_MS = 100
_MOST_RECONNECT_MS = 400


class Knock:
    """Connects again and again until `close`; `reached` is called when a publisher has answered. Make it in the event loop.

    `is_reached` stays true after that. ZeroMQ gives up on peers that break its protocol: then only a new one can reach them.
    """

    def __init__(self, endpoint: str, reached: Callable[[], None], *, context: Context) -> None:
        self.is_reached = False
        self._reached = reached
        self._loop = asyncio.get_running_loop()
        self._events: zmq.Socket[Any] = context.socket(zmq.SUB)
        self._events.linger = 0
        self._events.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._events.setsockopt(zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS)
        self._events.setsockopt(zmq.IPV6, int("[" in endpoint))
        self._monitor: zmq.Socket[bytes] = self._events.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._loop.add_reader(self._monitor.fileno(), self._read_monitor)
        self._events.connect(endpoint)
        # ZeroMQ gives a sign only of what comes after somebody has looked.
        self._first_look = self._loop.call_soon(self._read_monitor)

    def close(self) -> None:
        """Try no more."""
        self._first_look.cancel()
        self._loop.remove_reader(self._monitor.fileno())
        self._events.disable_monitor()
        self._monitor.close(linger=0)
        self._events.close(linger=0)

    def _read_monitor(self) -> None:
        try:
            while True:
                self._monitor.recv_multipart(zmq.NOBLOCK)
                self.is_reached = True
        except zmq.Again:
            pass
        if self.is_reached:
            self._reached()
