"""Files that others name are read whole or not at all: never for ever, and never without a bound."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.errors import InputError
from understudy.regular_file import check_regular, read_regular


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=20), limit=st.integers(0, 20))
def test_a_file_is_read_up_to_its_bound(tmp_path: Path, data: bytes, limit: int) -> None:
    """One byte more is too many, for those who read and for those who let others read."""
    path = tmp_path / "file"
    path.write_bytes(data)
    if len(data) <= limit:
        assert read_regular(path, limit) == data
        check_regular(path, limit)
        return
    for look in (read_regular, check_regular):
        with pytest.raises(InputError, match=f"file has more than {limit} bytes"):
            look(path, limit)


def _others(folder: Path) -> list[tuple[Path, str]]:
    pipe, loop = folder / "pipe", folder / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    return [
        (pipe, f"{pipe} is no regular file"),
        (Path("/dev/zero"), "/dev/zero is no regular file"),
        (folder, f"{folder} is no regular file|cannot read {folder}: Is a directory"),
        (folder / "nothing", f"cannot read {folder}/nothing: No such file or directory"),
        (folder / "pipe" / "x", f"cannot read {folder}/pipe/x: Not a directory"),
        (loop, f"cannot read {loop}: Too many levels of symbolic links"),
        (Path("nul\0"), "cannot read nul\0: embedded null byte"),
    ]


def test_what_is_no_regular_file_is_one_error(tmp_path: Path) -> None:
    """It names the file and says why; nobody waits for a writer of a pipe."""
    for path, says in _others(tmp_path):
        for look in (read_regular, check_regular):
            with pytest.raises(InputError, match=says):
                look(path, 100)


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    """As of a mounted configuration."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "link", 1) == b"x"
