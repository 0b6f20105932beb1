"""The file of `--workers-file`: one worker's address a line; what follows # does not count."""

import os
import stat
from pathlib import Path

from understudy.errors import InputError, UsageError
from understudy.gateway.upstream import WorkerAddress

MAX_BYTES = 1024 * 1024
"""Far more than the addresses of as many workers as a router can have."""


def addresses_in(path: Path) -> tuple[str, ...]:
    """Return the addresses in a file.

    Raises InputError for what cannot be read, is no regular file or no text, or is longer than MAX_BYTES, and UsageError for a
    line that is no address.
    """
    try:
        lines = _bytes_of(path).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(f"--workers-file {path} cannot be read: {reason}") from error
    addresses: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not (address := line.partition("#")[0].strip()):
            continue
        try:
            addresses.append(WorkerAddress.parse(address).url)
        except UsageError as error:
            raise UsageError(f"--workers-file {path}, line {number}: {error}") from error
    return tuple(addresses)


def _bytes_of(path: Path) -> bytes:
    # Without O_NONBLOCK the opening of a pipe that nobody writes to would never return.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(f"--workers-file {path} is no regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"--workers-file {path} has more than {MAX_BYTES:,} bytes")
    return data
