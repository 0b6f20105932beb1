"""Decide: a policy is asked once, counted, and held to the contract."""

import ast
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.routing.fleets import SizeOnlyFleet, fresh_memory, request_of

from understudy.errors import PolicyError
from understudy.routing import Choose, Decision, decide

FILE = "<user's policy>"


def policy_from(source: str) -> Choose:
    """Return the function `choose` of this source text, as if from a file."""
    names: dict[str, object] = {}
    exec(compile(ast.parse(source), FILE, "exec"), names)  # noqa: S102 - the only way to a known line number
    return cast(Choose, names["choose"])


def returning(answer: object) -> Choose:
    """Return a policy that always answers this."""
    return lambda _request, _fleet, _memory: cast(int, answer)


def ask(choose: Choose, size: int = 4) -> Decision:
    """Ask a policy called mine.py:choose about a request r1 of 10 blocks."""
    return decide(choose, "mine.py:choose", request_of(10), SizeOnlyFleet(size), fresh_memory())


@given(worker=st.integers(0, 3), matched=st.integers(0, 10))
def test_decisions_and_indices_are_accepted(worker: int, matched: int) -> None:
    """A decision is handed on as it is, a bare index becomes one that expects nothing cached."""
    decision = Decision(worker, matched, "because")
    assert ask(returning(decision)) is decision
    assert ask(returning(worker))[:2] == (worker, 0)


@pytest.mark.parametrize(
    "answer",
    [None, True, -1, 4, 1.0, "1", (1, 0, "x"), Decision(4, 0, "x"), Decision(True, 0, "x"), Decision(1, 11, "x"),
     Decision(1, -1, "x"), Decision(1, cast(int, None), "x"), Decision(1, 0, cast(str, None))],
)  # fmt: skip
def test_anything_else_is_refused(answer: object) -> None:
    """Whatever names no worker of the fleet is told with what it was, for which request, and what is accepted."""
    with pytest.raises(PolicyError) as caught:
        ask(returning(answer))
    message = str(caught.value)
    assert "policy 'mine.py:choose'" in message
    assert repr(answer) in message
    assert "request 'r1'" in message
    assert "a worker, 0 to 3" in message


def test_an_unprintable_answer_is_told_in_one_line() -> None:
    """Even an answer with a monstrous or broken repr leaves one readable line."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError("a\nb")

    for answer in (Broken(), "x\n" * 10_000, list(range(10_000))):
        with pytest.raises(PolicyError) as caught:
            ask(returning(answer))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_an_exception_is_told_with_its_line() -> None:
    """A policy that raises is named with the request, the exception, its message and the user's own line."""
    choose = policy_from(
        "import random\n\n\ndef choose(request, fleet, memory):\n    return random.choice([])\n"
    )
    with pytest.raises(
        PolicyError, match=r"'mine.py:choose' failed for request 'r1': IndexError at line 5: \w"
    ) as caught:
        ask(choose)
    assert isinstance(caught.value.__cause__, IndexError)


def test_the_deepest_line_of_the_users_file_is_told() -> None:
    """An exception below a helper in the same file is told at the helper's line, in one line of text."""
    choose = policy_from(
        "def helper():\n    raise KeyError('a\\nb')\n\ndef choose(request, fleet, memory):\n    helper()\n"
    )
    with pytest.raises(PolicyError, match="KeyError at line 2: "):
        ask(choose)


@pytest.mark.parametrize("error", ["SystemExit()", "ValueError()"])
def test_an_exception_without_a_message_is_told(error: str) -> None:
    """Leaving the program from a policy counts as failing, and no message leaves no dangling colon."""
    with pytest.raises(PolicyError, match=r"at line 2$"):
        ask(policy_from(f"def choose(request, fleet, memory):\n    raise {error}\n"))


def test_wrong_arguments_are_told_without_a_line() -> None:
    """A function that cannot be called so has no line to blame, but is named."""
    with pytest.raises(PolicyError, match=r"TypeError: .*takes 1 positional argument but 3 were given"):
        ask(policy_from("def choose(request):\n    return 0\n"))


def test_an_interrupt_passes_through() -> None:
    """Ctrl-C while a policy runs is not the policy's fault."""
    with pytest.raises(KeyboardInterrupt):
        ask(policy_from("def choose(request, fleet, memory):\n    raise KeyboardInterrupt\n"))


def test_only_decisions_are_counted() -> None:
    """The count of decisions goes up by one for each that was accepted, and not for a refused one."""
    memory = fresh_memory()
    seen = []

    def choose(_request: object, _fleet: object, own: object) -> int:
        assert own is memory
        seen.append(memory.decisions)
        return len(seen) - 1

    for _ in range(3):
        decide(choose, "count", request_of(), SizeOnlyFleet(3), memory)
    with pytest.raises(PolicyError):
        decide(choose, "count", request_of(), SizeOnlyFleet(3), memory)
    assert seen == [0, 1, 2, 3]
    assert memory.decisions == 3
