"""Files that a flag or an operator names: only regular ones are opened, for others may never end, and none without a bound."""

import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

from understudy.errors import InputError

MAX_YAML_BYTES = 1 << 20
"""Most that is parsed as YAML: some seconds of work, and far more than anybody writes by hand."""

MAX_SETTINGS_BYTES = 16 << 20
"""Most that a template, a certificate or a model's configuration may have."""

MAX_TOKENIZER_BYTES = 1 << 30
"""Most that a `tokenizer.json` may have; known ones have up to 40 MB."""

MAX_DATASET_BYTES = 4 << 30
"""Most that a file of answers may have, all of which are kept in memory."""


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file. Raises InputError for what cannot be read, is no regular file, or is longer."""
    try:
        with BufferedReader(FileIO(path, opener=_open_at_once)) as file:
            _check(path, os.fstat(file.fileno()), max_bytes)
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if len(data) > max_bytes:
        raise _too_long(path, max_bytes)
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; without O_NONBLOCK the opening of a pipe that nobody writes to would never return."""
    return os.open(path, flags | os.O_NONBLOCK)


def check_regular(path: Path, max_bytes: int) -> None:
    """Raise InputError for a file that others are to read, where `read_regular` would."""
    try:
        _check(path, path.stat(), max_bytes)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _check(path: Path, found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no regular file")
    if found.st_size > max_bytes:
        raise _too_long(path, max_bytes)


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(f"cannot read {path}: {reason}")


def _too_long(path: Path, max_bytes: int) -> InputError:
    return InputError(f"{path} has more than {max_bytes:,} bytes")
