"""Promises of finding a worker's events: endpoints as they are seen from another machine."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import InputError
from understudy.gateway.kv_events.sources import Source, read_sources


def answer(**config: object) -> bytes:
    """Return the answer of a worker with one rank."""
    return json.dumps({"0": {"publisher": "zmq"} | config}).encode()


@pytest.mark.parametrize("anywhere", ["*", "0.0.0.0", "[::]"])  # noqa: S104 - what workers say
@pytest.mark.parametrize(
    ("host", "seen"), [("10.0.0.7", "10.0.0.7"), ("pod-3.svc", "pod-3.svc"), ("fd00::7", "[fd00::7]")]
)
def test_a_wildcard_is_the_worker_s_host(anywhere: str, host: str, seen: str) -> None:
    """For events and for replays."""
    body = answer(endpoint=f"tcp://{anywhere}:5557", replay_endpoint=f"tcp://{anywhere}:5558", topic="kv")
    assert read_sources(body, host) == [Source(0, f"tcp://{seen}:5557", f"tcp://{seen}:5558", b"kv")]


@pytest.mark.parametrize("endpoint", ["tcp://10.1.2.3:5557", "tcp://[fd00::1]:5557", "ipc:///run/kv"])
def test_another_endpoint_is_taken_as_it_is(endpoint: str) -> None:
    """The worker has bound it."""
    assert read_sources(answer(endpoint=endpoint), "h") == [Source(0, endpoint, None, b"")]


def test_ranks_are_sources_of_their_own_in_their_order() -> None:
    """As many as there are; one that publishes nothing is none."""
    body = json.dumps(
        {
            str(rank): {"publisher": "null" if rank == 1 else "zmq", "endpoint": f"tcp://*:{5557 + rank}"}
            for rank in (10, 2, 1)
        }
    ).encode()
    assert [source.rank for source in read_sources(body, "h")] == [2, 10]
    assert read_sources(b"{}", "h") == []


def test_who_keeps_nothing_cannot_replay() -> None:
    """A buffer of no batches."""
    body = answer(endpoint="tcp://*:1", replay_endpoint="tcp://*:2", buffer_steps=0)
    assert read_sources(body, "h")[0].replay_endpoint is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"x": {}}',
        b'{"0": {"endpoint": 5}}',
        answer(endpoint="inproc://kv"),
        answer(endpoint="tcp://*:1", replay_endpoint="udp://*:1"),
        answer(endpoint="tcp://h:1\n"),
        json.dumps({str(rank): {} for rank in range(5000)}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_heard_is_told(body: bytes) -> None:
    """In one line that goes on from "the worker"."""
    with pytest.raises(InputError) as caught:
        read_sources(body, "h")
    assert "\n" not in str(caught.value)


@given(
    body=st.binary(max_size=50)
    | st.dictionaries(st.text(), st.integers()).map(lambda x: json.dumps(x).encode())
)
def test_anything_else_is_one_error_or_no_source(body: bytes) -> None:
    """Whatever a worker sends."""
    try:
        assert read_sources(body, "h") == []
    except InputError:
        return
