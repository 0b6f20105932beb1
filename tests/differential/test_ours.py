"""Our server, as a process of its own, against what vLLM answered to 2,000 generated requests."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.differential.conftest import RECORDING

MODEL_FOLDER = Path(__file__).parents[1] / "data" / "tokenizer" / "byte_level"


@pytest.fixture(name="server_url")
def running_server() -> Iterator[str]:
    """Start `understudy serve` with its defaults on a free port, and stop it by its process."""
    command = [sys.executable, "-m", "understudy", "serve", str(MODEL_FOLDER), "--served-model-name", "m"]
    with subprocess.Popen(
        [*command, "--port", "0", "--time-scale", "0.05"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        try:
            yield next(
                found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
        finally:
            server.terminate()
            server.stderr.close()
            server.wait()


def test_every_difference_is_known(server_url: str, tmp_path: Path) -> None:
    """Status, header names, structure, order of keys, nulls and error texts agree, or a reason is on record."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tests.differential.run"),
            *("--ours", server_url, "--replay", str(RECORDING), "--out", str(tmp_path / "differences.jsonl")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5_000:] + result.stderr
