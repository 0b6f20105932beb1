"""Sends the same generated requests to ours and to the judge, or to a recording of it, and tells what differs.

    python -m tests.differential.run --ours URL --judge URL --count 2000 --seed 1 [--record FILE]
    python -m tests.differential.run --ours URL --replay FILE

Exit status: 0 if every difference is known and, in a full run, every known difference occurred; 1 if not; 2 for wrong usage.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.differential.client import NO_ANSWER, UnreachableError, exchange
from tests.differential.compare import Difference, differences
from tests.differential.known import DEFAULT_FILE, Known, explanation, read_known
from tests.differential.message import HttpAnswer, HttpRequest
from tests.differential.recording import UnusableRecordingError, read_recording, write_recording
from tests.differential.requests import request

FULL_RUN = 2000
AT_ONCE = 4
TRIES_OF_A_STREAM = 4
"""A server that is late merges tokens; a stream that differs is asked for again, because only a lasting difference counts."""
_EXAMPLE_CHARACTERS = 300


@dataclass(frozen=True)
class Compared:
    """One request with what the judge answered and where ours differs."""

    number: int
    request: HttpRequest
    judge: HttpAnswer
    differences: list[Difference]


class JudgeSilentError(Exception):
    """The judge gave no answer, so there is nothing to compare with."""


async def compare_one(ours: str, judge: str | HttpAnswer, number: int, asked: HttpRequest) -> Compared:
    """Ask ours and the judge, or compare with what the judge answered once.

    Raises:
        JudgeSilentError: the judge gave no answer.
        UnreachableError: nothing listens at an address.
    """
    for _ in range(TRIES_OF_A_STREAM):
        if isinstance(judge, str):
            answer, own = await asyncio.gather(exchange(judge, asked), exchange(ours, asked))
        else:
            answer, own = judge, await exchange(ours, asked)
        if answer.status == NO_ANSWER:
            raise JudgeSilentError(f"request {number}, {asked.route}: the judge: {answer.body.decode()}")
        found = differences(asked, answer, own)
        if not found or not answer.header("content-type").startswith("text/event-stream"):
            break
    return Compared(number, asked, answer, found)


async def compare_all(
    ours: str, judge: str | Sequence[HttpAnswer], requests: Sequence[HttpRequest], told: Callable[[int], None]
) -> list[Compared]:
    """Compare all requests, a few at a time; `told` hears how many are done.

    Raises:
        JudgeSilentError, UnreachableError: see `compare_one`.
    """
    numbers = iter(range(len(requests)))
    results: list[Compared] = []

    async def worker() -> None:
        for number in numbers:
            against = judge if isinstance(judge, str) else judge[number]
            results.append(await compare_one(ours, against, number, requests[number]))
            told(len(results))

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return sorted(results, key=lambda one: one.number)


def summary(results: Sequence[Compared], known: Sequence[Known], *, full: bool) -> tuple[list[str], bool]:
    """Return the lines that tell what differs, grouped by route, kind and field, and whether all is as it should be."""
    unexplained: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], tuple[Compared, Difference]] = {}
    used: Counter[int] = Counter()
    for result in results:
        for difference in result.differences:
            place = explanation(difference, known)
            if place is None:
                group = (difference.route, str(difference.kind), difference.field)
                unexplained[group] += 1
                examples.setdefault(group, (result, difference))
            else:
                used[place] += 1
    lines = [f"{sum(1 for one in results if one.differences)} of {len(results)} answers differ."]
    lines += [f"known, {used[place]} times: {one.reason}" for place, one in enumerate(known) if used[place]]
    stale = [one for place, one in enumerate(known) if full and not used[place]]
    lines += [
        f"STALE, it no longer occurs: {one.route} {one.kind} {one.field}: {one.reason}" for one in stale
    ]
    for group, count in unexplained.most_common():
        result, difference = examples[group]
        lines += [
            f"{count} x {' '.join(group)}",
            f"    request {result.number}: {_short(result.request.body.decode(errors='replace'))}",
            f"    judge: {_short(difference.judge)}",
            f"    ours:  {_short(difference.ours)}",
        ]
    return lines, not unexplained and not stale


def write_differences(file: Path, results: Sequence[Compared], known: Sequence[Known]) -> None:
    """Write a line of JSON for each difference, with its request and, if it is known, the reason."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lines:
        for result in results:
            for difference in result.differences:
                place = explanation(difference, known)
                line = {
                    "number": result.number,
                    **asdict(difference),
                    "path": result.request.path,
                    "headers": result.request.headers,
                    "body": result.request.body.decode(errors="replace"),
                    "known": None if place is None else known[place].reason,
                }
                print(json.dumps(line), file=lines)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[:_EXAMPLE_CHARACTERS] + " …"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential.run",
        description="Compare the answers of two servers to generated requests.",
    )
    parser.add_argument("--ours", required=True, metavar="URL", help="the server under test")
    judge = parser.add_mutually_exclusive_group(required=True)
    judge.add_argument("--judge", metavar="URL", help="the real vLLM")
    judge.add_argument("--replay", type=Path, metavar="FILE", help="what the real vLLM answered once")
    parser.add_argument(
        "--count", type=int, default=FULL_RUN, help="how many requests; a replay sends all of its own"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--known", type=Path, default=DEFAULT_FILE, metavar="FILE", help="differences that are accepted"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what the judge answered")
    parser.add_argument(
        "--out", type=Path, default=Path("understudy-differential/differences.jsonl"), metavar="FILE"
    )
    arguments = parser.parse_args()
    if arguments.record and arguments.replay:
        parser.error("--record needs --judge")
    return arguments


def main() -> int:
    """Run the command and return its exit status."""
    arguments = _arguments()
    try:
        known = read_known(arguments.known)
        judge: str | Sequence[HttpAnswer] = arguments.judge
        seed, count = arguments.seed, arguments.count
        if arguments.replay:
            heading, judge = read_recording(arguments.replay)
            seed, count = heading.seed, heading.count
        requests = [request(seed, number) for number in range(count)]
        results = asyncio.run(compare_all(arguments.ours, judge, requests, _progress(count)))
    except (JudgeSilentError, UnreachableError, UnusableRecordingError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    lines, good = summary(results, known, full=count >= FULL_RUN)
    print("\n".join(lines))
    write_differences(arguments.out, results, known)
    if arguments.record:
        write_recording(arguments.record, seed, [one.judge for one in results], "vllm 0.33.0")
        print(f"{arguments.record}: {arguments.record.stat().st_size} bytes")
    return 0 if good else 1


def _progress(count: int) -> Callable[[int], None]:
    def told(done: int) -> None:
        if sys.stderr.isatty() or done % 500 == 0:
            print(f"\r{done} of {count}", end="" if sys.stderr.isatty() else "\n", file=sys.stderr)

    return told


if __name__ == "__main__":
    sys.exit(main())
