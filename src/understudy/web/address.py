"""The address that a server listens at: bound once, so that nobody else can have it before connections are accepted."""

import contextlib
import socket

from understudy.errors import UsageError


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that has an address but accepts nothing yet; empty for all IPv4 addresses, 0 for any free port.

    A name stands for one IPv4 address, as in vLLM. Raises OSError where the address cannot be had, and OverflowError
    for what is no port.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Others may bind beside a socket that shares its address and does not listen yet. It is shared only with what is
        # left of the connections of an earlier server.
        with contextlib.suppress(OSError):
            bound.bind((host, port))
            return bound
        share(bound)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


def share(bound: socket.socket) -> None:
    """Let the address be bound again while connections to it are still there; do it just before listening."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def cannot_listen(where: str, error: OSError | OverflowError) -> UsageError:
    """Return the error for an address, as it is shown, that cannot be had."""
    if isinstance(error, OSError):
        return UsageError(f"cannot listen on {where}: {error.strerror or error}")
    return UsageError(f"cannot listen on {where}: the port must be from 0 to 65535")
