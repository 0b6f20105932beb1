"""What clients of one emulated worker see is what the simulator says of it."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replay.replaying import Told, replayed, seen, simulated, told
from tests.server.serving import serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.engine import Prompt, SegmentPrompt, TokenPrompt
from understudy.replay import ReplaySettings
from understudy.workload import Arrivals, ClosedLoop, OpenLoop, WorkloadRequest

FLAGS = ("--max-model-len", "256", "--max-num-seqs", "6", "--enable-prompt-tokens-details")
SEGMENT_TOKENS = 48


def _prompt(family: int, num_tokens: int, *, is_segments: bool) -> Prompt:
    """Return a beginning of the family's text."""
    if is_segments:
        ids = [1_000 * family + number for number in range(-(-num_tokens // SEGMENT_TOKENS))]
        return SegmentPrompt(num_tokens, ids, SEGMENT_TOKENS)
    return TokenPrompt([500 + 1_000 * family + place % 7 for place in range(num_tokens)])


@st.composite
def _workloads(draw: st.DrawFn) -> list[WorkloadRequest]:
    is_segments = draw(st.booleans())
    gaps_ns = draw(st.lists(st.integers(1_000, 30_000_000), min_size=1, max_size=10))
    return [
        WorkloadRequest(
            request_id=f"r{number}",
            arrival_ns=arrival_ns,
            prompt=_prompt(draw(st.integers(0, 2)), draw(st.integers(1, 255)), is_segments=is_segments),
            output_tokens=draw(st.integers(1, 12)),
            priority=draw(st.integers(0, 2)),
            session_id=draw(st.sampled_from([None, "a", "b", "ä \n"])),
        )
        for number, arrival_ns in enumerate(accumulate(gaps_ns))
    ]


class _Clients:
    """Clients that send every n-th request each, and rest for a while, but a little longer where two requests would coincide."""

    feedback = True

    def __init__(self, requests: Sequence[WorkloadRequest], num_clients: int) -> None:
        self._waiting = {number: list(requests[number::num_clients]) for number in range(num_clients)}
        self._client_of = {
            request.request_id: number for number, own in self._waiting.items() for request in own
        }
        self._due: deque[tuple[int, int]] = deque()
        self._latest_ns = 0
        for number in self._waiting:
            self._rest(number, 0)

    def peek_ns(self) -> int | None:
        """Return when the first of them has rested."""
        return self._due[0][0] if self._due else None

    def pop(self) -> WorkloadRequest:
        """Return what it sends then."""
        due_ns, number = self._due.popleft()
        return replace(self._waiting[number].pop(0), arrival_ns=due_ns)

    def finished(self, request_id: str, now_ns: int, /) -> None:
        """Let whoever sent it rest."""
        self._rest(self._client_of[request_id], now_ns)

    def _rest(self, number: int, now_ns: int) -> None:
        if self._waiting[number]:
            self._latest_ns = max(now_ns + 1_000_003, self._latest_ns + 50_021)
            self._due.append((self._latest_ns, number))


async def _both(
    arrivals: Callable[[], Arrivals], flags: Sequence[str], speed: float
) -> tuple[list[Told], list[Told]]:
    async with serving(*FLAGS, "--time-scale", repr(1 / speed), *flags) as server:
        replay = await replayed(server.url, arrivals(), ReplaySettings(speed=speed))
        return seen(replay), told(simulated(server, arrivals()))


@settings(max_examples=15, deadline=None)
@given(
    workload=_workloads(),
    flags=st.sampled_from(
        [
            (),
            ("--scheduling-policy", "priority"),
            ("--no-enable-prefix-caching",),
            ("--num-gpu-blocks-override", "18"),
        ]
    ),
    speed=st.sampled_from([1.0, 10.0, 0.5]),
)
def test_clients_see_the_simulators_timeline(
    workload: list[WorkloadRequest], flags: Sequence[str], speed: float
) -> None:
    """Arrival, first and last token, lengths and cached tokens are equal, whatever the speed and the kind of prompt."""
    clients, simulation = run_in_virtual_time(_both(lambda: OpenLoop(workload), flags, speed))
    _assert_equal(clients, simulation)


@settings(max_examples=8, deadline=None)
@given(workload=_workloads(), think_ns=st.sampled_from([0, 5_000_000]), speed=st.sampled_from([1.0, 10.0]))
def test_a_closed_loop_turns_the_same_way(
    workload: list[WorkloadRequest], think_ns: int, speed: float
) -> None:
    """A client that waits for its answers sends the next request when the simulator lets it."""
    clients, simulation = run_in_virtual_time(_both(lambda: ClosedLoop(workload, 1, think_ns), (), speed))
    _assert_equal(clients, simulation)


@settings(max_examples=12, deadline=None)
@given(
    workload=_workloads(), num_clients=st.integers(2, 4), flags=st.sampled_from([(), ("--max-num-seqs", "2")])
)
def test_clients_that_wait_for_answers_side_by_side(
    workload: list[WorkloadRequest], num_clients: int, flags: Sequence[str]
) -> None:
    """Their requests meet in the engine as they do in the simulator, if no two arrive at the very same time."""
    clients, simulation = run_in_virtual_time(_both(lambda: _Clients(workload, num_clients), flags, 1.0))
    _assert_equal(clients, simulation)


def _assert_equal(clients: list[Told], simulation: list[Told]) -> None:
    """To the microsecond: times pass through an event loop's floating point."""
    assert len(clients) == len(simulation)
    for one, other in zip(clients, simulation, strict=True):
        for name, left, right in zip(Told._fields, one, other, strict=True):
            if name.endswith("_ns") and left is not None:
                assert left == pytest.approx(right, abs=1_000), (name, one, other)
            else:
                assert left == right, (name, one, other)
