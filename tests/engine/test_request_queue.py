"""The waiting queue against its definition: a list in the order of arrival, or a sorted one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import Request, TokenPrompt
from understudy.engine.config import POLICIES, SchedulingPolicy
from understudy.engine.request_queue import request_queue

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "prepend", "pop", "remove"]), st.integers(0, 2), st.integers(0, 3)
    ),
    max_size=60,
)


@pytest.mark.parametrize("policy", POLICIES)
@given(operations=OPERATIONS)
def test_order_of_service(policy: SchedulingPolicy, operations: list[tuple[str, int, int]]) -> None:
    """First come, first served puts the preempted in front; priority sorts by priority, arrival time and id."""
    queue = request_queue(policy)
    expected: list[Request] = []
    for serial, (operation, priority, arrival_time) in enumerate(operations):
        request = Request(
            f"r{serial}", TokenPrompt([1]), 1, priority=priority, arrival_time=float(arrival_time)
        )
        match operation:
            case "add":
                queue.add(request)
                expected.append(request)
            case "prepend":
                queue.prepend(request)
                expected.insert(0, request)
            case "pop" if expected:
                assert queue.peek() is expected[0]
                assert queue.pop() is expected.pop(0)
            case "remove":
                gone = expected[priority :: 1 + arrival_time]
                queue.remove([*gone, request])
                expected = [one for one in expected if one not in gone]
        if policy == "priority":
            expected.sort(key=lambda one: (one.priority, one.arrival_time, one.request_id))
        assert list(queue) == expected
        assert len(queue) == len(expected)
