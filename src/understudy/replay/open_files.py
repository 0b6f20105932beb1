"""Room for connections: each one is an open file, and a process may open so many."""

import resource

_OTHER_FILES = 64
"""For whatever else this process has open."""


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files as far as needed and allowed; return how many connections fit, at most `wanted`."""
    needed = wanted + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(min(wanted, soft - _OTHER_FILES), 1)
