"""WorkerSpeed: sums over time, against the same sums computed from all answers at once."""

from math import exp, isclose

from hypothesis import given
from hypothesis import strategies as st

from understudy.routing.worker_speed import FADING_NS, TOKENS_OF_A_PROMPT, WorkerSpeed

answers = st.tuples(
    st.integers(0, 100), st.integers(0, 50), st.integers(0, 50), st.integers(1, 500), st.integers(0, 500)
)
"""When it is asked for, how long it waits, how long it streams, tokens of its prompt, tokens that come."""


@given(drawn=st.lists(answers, max_size=8), until_ns=st.integers(1, 200))
def test_sums_are_those_of_the_answers(drawn: list[tuple[int, int, int, int, int]], until_ns: int) -> None:
    """However answers overlap, and whichever are still under way, the first measurement is the plain average."""
    worker = WorkerSpeed()
    events = []
    watched = {}
    for number, (at_ns, wait_ns, stream_ns, prompt, tokens) in enumerate(drawn):
        events += [(at_ns, 0, number), (at_ns + wait_ns, 1, number), (at_ns + wait_ns + stream_ns, 2, number)]
        assert prompt >= 1
        assert tokens >= 0
    for now_ns, what, number in sorted(event for event in events if event[0] <= until_ns):
        _, _, _, prompt, tokens = drawn[number]
        if what == 0:
            watched[number] = worker.watch(prompt, prompt // 2, now_ns)
        elif what == 1:
            watched[number].began(now_ns)
            watched[number].tokens += tokens
        else:
            watched[number].ended(now_ns)
    measured = worker.measure(until_ns)
    waits = [(a, min(a + w, until_ns)) for a, w, _, _, _ in drawn if a <= until_ns]
    streams = [(a + w, min(a + w + s, until_ns), p, t) for a, w, s, p, t in drawn if a + w <= until_ns]
    waiting_ns = sum(any(a <= now < b for a, b in waits) for now in range(until_ns))
    streaming_ns = sum(any(a <= now < b for a, b, _, _ in streams) for now in range(until_ns))
    stream_ns = sum(b - a for a, b, _, _ in streams)
    prefilled = sum(p // 2 + TOKENS_OF_A_PROMPT for _, _, p, _ in streams)
    pending = [p // 2 + TOKENS_OF_A_PROMPT for a, w, _, p, _ in drawn if a <= until_ns < a + w]
    alone_ns = sum(
        sum(a <= now < b for a, b, _, _ in streams)
        for now in range(until_ns)
        if not any(a <= now < b for a, b in waits)
    )
    assert measured.stream_ns == stream_ns
    assert measured.undisturbed == (alone_ns / stream_ns if stream_ns else 1.0)
    assert measured.speed == (sum(t for *_, t in streams) / stream_ns if stream_ns else None)
    assert measured.prefill == ((prefilled + max(pending, default=0)) / waiting_ns if waiting_ns else None)
    context = sum((b - a) * p for a, b, p, _ in streams)
    assert measured.context == (context / streaming_ns if streaming_ns else None)


def test_what_was_measured_fades() -> None:
    """Old sums weigh less, and an average over them stays what it was until something new comes."""
    worker = WorkerSpeed()
    watched = worker.watch(100, 100, 0)
    watched.began(1_000)
    watched.tokens += 50
    watched.ended(2_000)
    first, second = worker.measure(2_000), worker.measure(2_000 + FADING_NS)
    assert isclose(first.stream_ns, 1_000)
    assert isclose(second.stream_ns, 1_000, rel_tol=1e-5)
    third = worker.measure(2_000 + 2 * FADING_NS)
    assert isclose(third.stream_ns, 1_000 / exp(1), rel_tol=1e-5)
    assert isclose(worker.measure(2_000 + 3 * FADING_NS).stream_ns, 1_000 / exp(2), rel_tol=1e-5)
    assert third.speed is not None
    assert isclose(third.speed, 0.05)


def test_tokens_count_once() -> None:
    """Tokens of an answer under way are not counted again when it is measured again, nor when it ends."""
    worker = WorkerSpeed()
    watched = worker.watch(100, 100, 0)
    watched.began(0)
    watched.tokens += 10
    assert worker.measure(1_000).speed == 10 / 1_000
    watched.ended(1_000)
    speed = worker.measure(1_000).speed
    assert speed is not None
    assert isclose(speed, 10 / 1_000)
