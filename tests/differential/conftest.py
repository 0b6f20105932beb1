"""The recorded answers, read once."""

from pathlib import Path

import pytest
from tests.differential.message import HttpAnswer, HttpRequest
from tests.differential.recording import read_recording
from tests.differential.requests import request

RECORDING = Path(__file__).parent / "recorded" / "seed-1.jsonl.xz"


class Recorded(list[tuple[HttpRequest, HttpAnswer]]):
    """Requests with what vLLM answered; its representation is short, for the reports of failed tests."""

    def __repr__(self) -> str:
        return f"<{len(self)} recorded answers>"


@pytest.fixture(scope="session")
def recorded() -> Recorded:
    """Return requests with what vLLM answered."""
    heading, answers = read_recording(RECORDING)
    return Recorded((request(heading.seed, number), answer) for number, answer in enumerate(answers))
