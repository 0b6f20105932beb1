"""A judge's answers in a file, so that ours can be compared without the judge.

Compressed by LZMA: a line of JSON that says which requests were answered, and then a line for each answer. The requests are not
in it: they are generated anew, and a digest tells if they would be others.
"""

import hashlib
import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.differential.message import HttpAnswer, HttpRequest
from tests.differential.requests import request
from tests.differential.shape import trimmed


class Heading(msgspec.Struct, frozen=True):
    """Which requests, and whose answers."""

    seed: int
    count: int
    requests: str
    judge: str


class UnusableRecordingError(Exception):
    """The file is no recording, or one of other requests."""


def digest(requests: Sequence[HttpRequest]) -> str:
    """Return what tells other requests from these."""
    lines = (repr((one.method, one.path, one.headers, one.body)) for one in requests)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_recording(file: Path, seed: int, answers: Sequence[HttpAnswer], judge: str) -> None:
    """Write the answers to the first requests of a seed."""
    requests = [request(seed, number) for number in range(len(answers))]
    lines = [msgspec.json.encode(Heading(seed, len(answers), digest(requests), judge))]
    for asked, answer in zip(requests, answers, strict=True):
        kept = trimmed(asked, answer)
        line = [kept.status, kept.headers, kept.body.decode("utf-8", "surrogateescape"), kept.whole]
        lines.append(json.dumps(line, separators=(",", ":")).encode())
    file.write_bytes(lzma.compress(b"\n".join(lines), preset=9 | lzma.PRESET_EXTREME))


def read_recording(file: Path) -> tuple[Heading, list[HttpAnswer]]:
    """Return a recording.

    Raises:
        UnusableRecordingError: it is none, or the requests of its seed have become others since.
    """
    try:
        first, *lines = lzma.decompress(file.read_bytes()).split(b"\n")
        heading = msgspec.json.decode(first, type=Heading)
        answers = [_answer(line) for line in lines]
    except (OSError, lzma.LZMAError, ValueError, TypeError) as error:
        raise UnusableRecordingError(f"{file} is no recording: {error}") from error
    requests = [request(heading.seed, number) for number in range(heading.count)]
    if heading.count != len(answers) or heading.requests != digest(requests):
        raise UnusableRecordingError(f"{file} answers other requests than are generated now: record it again")
    return heading, answers


def _answer(line: bytes) -> HttpAnswer:
    status, headers, body, whole = json.loads(line)
    pairs = tuple((name, value) for name, value in headers)
    return HttpAnswer(status, pairs, body.encode("utf-8", "surrogateescape"), whole)
