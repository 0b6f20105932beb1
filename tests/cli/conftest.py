"""A folder to run commands in."""

from pathlib import Path

import pytest
from tests.cli.processes import TRACE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder but for a small trace."""
    (tmp_path / "trace.jsonl").write_text(TRACE, encoding="utf-8")
    return tmp_path
