"""The server and the simulator give the same timeline for the same arrivals, to the nanosecond."""

import asyncio
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving import Reply, Served, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.engine import TokenPrompt
from understudy.fleet import FleetConfig, RequestRecord, Simulation
from understudy.routing import load_policy
from understudy.server.engine_clock import NS_PER_SECOND
from understudy.workload import OpenLoop, WorkloadRequest

MAX_MODEL_LEN = 192
FIRST_TOKEN_ID = 300


class Call(NamedTuple):
    """One request of a trace; prompts of a family are beginnings of one text."""

    gap_ns: int
    family: int
    prompt_tokens: int
    max_tokens: int
    priority: int
    is_streamed: bool


class Told(NamedTuple):
    """What either side says of a request."""

    queued_ns: int | None
    scheduled_ns: int | None
    first_token_ns: int | None
    last_token_ns: int | None
    cached_tokens: int | None
    output_tokens: int


class Seen(NamedTuple):
    """What a client of the server got to know of one request."""

    arrival_ns: int
    output_ids: Sequence[int]
    told: Told


_FLAGS = st.tuples(
    st.sampled_from([(), ("--no-async-scheduling",)]),
    st.sampled_from([(), ("--scheduling-policy", "priority")]),
    st.sampled_from(
        [
            ("--max-num-batched-tokens", "64"),
            ("--max-num-batched-tokens", "256"),
            ("--max-num-batched-tokens", "192", "--no-enable-chunked-prefill"),
        ]
    ),
    st.sampled_from([(), ("--time-scale", "0.1")]),
    st.sampled_from([("--num-gpu-blocks-override", "13"), ("--num-gpu-blocks-override", "30")]),
    st.sampled_from([(), ("--no-enable-prefix-caching",), ("--watermark", "0.1")]),
).map(lambda parts: [word for part in parts for word in part])

_CALLS = st.lists(
    st.builds(
        Call,
        gap_ns=st.integers(1, 30_000_000) | st.integers(1, 100_000),
        family=st.integers(0, 2),
        prompt_tokens=st.integers(1, MAX_MODEL_LEN - 24),
        max_tokens=st.integers(1, 24),
        priority=st.integers(0, 2),
        is_streamed=st.booleans(),
    ),
    min_size=30,
    max_size=40,
)


@settings(max_examples=20)
@given(flags=_FLAGS, calls=_CALLS)
def test_the_timeline_over_http_is_the_simulators(flags: list[str], calls: list[Call]) -> None:
    """Whatever the scheduler's flags and the time scale, with prefixes shared, blocks evicted and requests preempted."""
    seen, records = run_in_virtual_time(_both(flags, calls))
    assert [one.told for one in seen] == [_told_of(record) for record in records]


async def _both(flags: Sequence[str], calls: Sequence[Call]) -> tuple[list[Seen], list[RequestRecord]]:
    async with serving(
        "--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "6", "--simulated-time-headers",
        "--enable-prompt-tokens-details", *flags,
    ) as server:  # fmt: skip
        scale = server.worker.settings.arguments.values["time_scale"]
        arrivals_ns = accumulate(call.gap_ns for call in calls)
        sent = (
            _send(server, number, call, at_ns / NS_PER_SECOND * scale)
            for number, (call, at_ns) in enumerate(zip(calls, arrivals_ns, strict=True))
        )
        seen = await asyncio.gather(*sent)
        return list(seen), _simulated(server, calls, seen)


async def _send(server: Served, number: int, call: Call, at_seconds: float) -> Seen:
    await asyncio.sleep(at_seconds)
    reply = await server.complete(
        {"X-Request-Id": _id(number)},
        prompt=_prompt(call),
        max_tokens=call.max_tokens,
        priority=call.priority,
        stream=call.is_streamed,
        return_token_ids=True,
        **({"stream_options": {"include_usage": True}} if call.is_streamed else {}),
    )
    assert reply.status == 200, reply.text
    return _seen(reply)


def _id(number: int) -> str:
    return f"r{number:04}"


def _prompt(call: Call) -> list[int]:
    return [FIRST_TOKEN_ID + 1_000 * call.family + place % 7 for place in range(call.prompt_tokens)]


def _seen(reply: Reply) -> Seen:
    bodies = reply.events or [reply.json]
    choices = [choice for body in bodies for choice in body["choices"]]
    output_ids = [token_id for choice in choices for token_id in choice["token_ids"] or ()]
    usage: dict[str, Any] = bodies[-1]["usage"]

    def ns(name: str) -> int:
        return round(float(reply.times[f"X-Understudy-{name}-Seconds"]) * NS_PER_SECOND)

    told = Told(
        ns("Queued"), ns("Scheduled"), ns("First-Token"), ns("Last-Token"),
        usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens"],
    )  # fmt: skip
    return Seen(ns("Arrival"), output_ids, told)


def _simulated(server: Served, calls: Sequence[Call], seen: Sequence[Seen]) -> list[RequestRecord]:
    setup = server.worker.settings.setup
    policy = "round-robin"
    config = FleetConfig(
        engine=setup.config,
        latency=setup.latency,
        num_workers=1,
        policy=policy,
        choose=load_policy(policy),
    )
    requests = [
        WorkloadRequest(
            request_id=_id(number),
            arrival_ns=one.arrival_ns,
            prompt=TokenPrompt(_prompt(call)),
            output_tokens=call.max_tokens,
            output_ids=one.output_ids,
            priority=call.priority,
        )
        for number, (call, one) in enumerate(zip(calls, seen, strict=True))
    ]
    simulation = Simulation(config, OpenLoop(requests))
    simulation.run()
    simulation.finish()
    return simulation.records


def _told_of(record: RequestRecord) -> Told:
    return Told(
        record.queued_ns,
        record.scheduled_ns,
        record.first_token_ns,
        record.finish_ns,
        record.cached_tokens,
        record.output_tokens,
    )
