"""The file of `--workers-file`: one worker's address a line; what follows # does not count."""

from pathlib import Path

from understudy.errors import InputError, UsageError
from understudy.gateway.upstream import WorkerAddress
from understudy.regular_file import MAX_YAML_BYTES, read_regular


def addresses_in(path: Path) -> tuple[str, ...]:
    """Return the addresses in a file.

    Raises InputError for what cannot be read, is no regular file or no text, or is longer than MAX_YAML_BYTES, and UsageError for a
    line that is no address.
    """
    try:
        content = read_regular(path, MAX_YAML_BYTES)
        lines = content.decode("utf-8").splitlines()
    except InputError as error:
        raise InputError(f"--workers-file: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--workers-file {path} is no text in UTF-8") from error
    if not content:
        # Whoever saves a file in place leaves it so for a moment.
        raise InputError(f"--workers-file {path} is empty: a line with # says that there are no workers")
    addresses: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not (address := line.partition("#")[0].strip()):
            continue
        try:
            addresses.append(WorkerAddress.parse(address).url)
        except UsageError as error:
            raise UsageError(f"--workers-file {path}, line {number}: {error}") from error
    return tuple(addresses)
