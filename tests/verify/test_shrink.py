"""Shrinking: what it yields still holds, is ever smaller, and ends."""

from collections.abc import Callable

import pytest

from understudy.engine import EngineConfig
from understudy.verify.cases import Case, Json, random_case
from understudy.verify.shrink import SIMPLEST, shrunk

CONDITIONS: dict[str, Callable[[Case], bool]] = {
    "always": lambda _case: True,
    "three requests": lambda case: len(case.workload) >= 3,
    "a long prompt": lambda case: any(len(line["prompt"]) > 10 for line in case.workload),
    "asynchronous": lambda case: bool(case.config["async_scheduling"]),
}


def _size(case: Case) -> int:
    config = sum(bool(case.config[name] != simplest) for name, simplest in SIMPLEST.items())
    requests = sum(_request_size(line) for line in case.workload)
    return config + requests + len(case.resets) + len(case.pauses) + case.fills_pipeline


def _request_size(line: Json) -> int:
    numbers: list[int] = [line["max_tokens"], line["arrive_step"], bool(line["priority"])]
    return len(line) + len(line["prompt"]) + sum(numbers)


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("seed", range(6))
def test_what_remains_still_holds_and_is_smaller(seed: int, condition: Callable[[Case], bool]) -> None:
    """And its configuration is one that vLLM accepts."""
    case = random_case(seed)
    if not condition(case):
        return
    size = _size(case)
    for smaller in shrunk(case, condition, 2_000):
        assert condition(smaller)
        assert _size(smaller) < size
        EngineConfig(**smaller.config)
        size = _size(smaller)


def test_nothing_is_left_that_need_not_be() -> None:
    """Of what always holds the empty workload remains; of three requests three of a token each."""
    *_, smallest = shrunk(random_case(0), CONDITIONS["always"], 2_000)
    assert smallest.workload == []
    *_, three = shrunk(random_case(0), CONDITIONS["three requests"], 2_000)
    assert [len(line["prompt"]) for line in three.workload] == [1, 1, 1]


def test_tries_are_bounded() -> None:
    """It gives up when it may not ask again."""
    asked: list[Case] = []

    def refuse(case: Case) -> bool:
        asked.append(case)
        return False

    assert list(shrunk(random_case(0), refuse, 5)) == []
    assert len(asked) == 5
