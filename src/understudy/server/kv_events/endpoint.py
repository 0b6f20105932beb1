"""Where a rank's sockets are: vLLM's rules for ports, suffixes, and who binds (vllm/distributed/kv_events.py, 0.33.0)."""

import ipaddress
import os
import socket
from typing import Any

import zmq

from understudy.errors import UsageError

ANY_PORT = "tcp://*:0"
"""Bound on one address of this node, for other nodes must be told where; every other host is bound as written."""

_OUTSIDE = ((socket.AF_INET, "8.8.8.8"), (socket.AF_INET6, "2001:4860:4860::8888"))
"""Addresses that lie behind the default route; a datagram socket connects to them without sending anything."""


def rank_endpoint(endpoint: str, rank: int) -> str:
    """Return the endpoint of a data-parallel rank: port + rank, or a suffix for inproc; port 0 stays.

    Raises UsageError for what is no endpoint, and for ipc behind rank 0, for which vLLM does not start either.
    """
    scheme, separator, address = endpoint.partition("://")
    if not separator or not address or scheme not in {"tcp", "ipc", "inproc"}:
        raise UsageError(
            f"endpoint {endpoint!r} of KV events: accepted are tcp://HOST:PORT, ipc://PATH and inproc://NAME"
        )
    if scheme == "tcp":
        host, _, port = address.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or int(port) + rank > 65_535:
            raise UsageError(
                f"endpoint {endpoint!r} of KV events has no port for rank {rank}: tcp://HOST:PORT is accepted"
            )
        return endpoint if port == "0" else f"tcp://{host}:{int(port) + rank}"
    if rank == 0:
        return endpoint
    if scheme == "ipc":
        raise UsageError(f"endpoint {endpoint!r} of KV events: ipc is accepted only without data parallelism")
    return f"{endpoint}_dp{rank}"


def binds(endpoint: str) -> bool:
    """Return whether the publisher binds the endpoint; else it connects to a subscriber that has bound it."""
    return "*" in endpoint or "::" in endpoint or endpoint.startswith(("ipc://", "inproc://"))


def bind(bound: "zmq.Socket[Any]", endpoint: str) -> str:
    """Bind, and return the endpoint that subscribers connect to; raises UsageError."""
    address = f"tcp://{node_address()}:0" if endpoint == ANY_PORT else endpoint
    try:
        bound.setsockopt(zmq.IPV6, int("::" in address))
        bound.bind(address)
        return bound.getsockopt_string(zmq.LAST_ENDPOINT) if address.endswith(":0") else address
    except zmq.ZMQError as error:
        raise UsageError(f"cannot bind {endpoint} for KV events: {error.strerror}") from error


def connect(connected: "zmq.Socket[Any]", endpoint: str) -> None:
    """Connect to a subscriber, which need not be there yet; raises UsageError."""
    try:
        connected.connect(endpoint)
    except zmq.ZMQError as error:
        raise UsageError(f"cannot connect to {endpoint} for KV events: {error.strerror}") from error


def node_address() -> str:
    """Return the address of this node, in brackets for IPv6: VLLM_HOST_IP, or that of the default route."""
    if named := os.environ.get("VLLM_HOST_IP"):
        return _in_brackets(named)
    for family, outside in _OUTSIDE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((outside, 80))
                return _in_brackets(str(probe.getsockname()[0]))
        except OSError:
            continue
    raise UsageError(f"{ANY_PORT} for KV events needs an address of this node: set VLLM_HOST_IP")


def _in_brackets(address: str) -> str:
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        return address
