"""What each generator promises of its prompts, and what all of them promise."""

import os
import subprocess
import sys
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.engine import TokenPrompt
from understudy.errors import UsageError
from understudy.tokenize import VOCABULARY_SIZE
from understudy.workload import WorkloadRequest, known_generators, open_trace
from understudy.workload.generators import generator

BLOCK_SIZE = 16
"""vLLM's default."""

seeds = st.integers(0, 2**63 - 1)


def token_ids(request: WorkloadRequest) -> tuple[int, ...]:
    """Return the prompt's token ids."""
    assert isinstance(request.prompt, TokenPrompt)
    return tuple(request.prompt.token_ids)


def generated(text: str) -> list[WorkloadRequest]:
    """Return all requests of a generator."""
    return list(generator(text).generate())


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(known_generators()), seeds, st.integers(1, 40), st.floats(1e-6, 1e6))
def test_what_all_generators_promise(name: str, seed: int, count: int, rate: float) -> None:
    """As many requests as asked for, in order, ids all different, within limits; the same each time."""
    text = f"{name}:requests={count},seed={seed},rate={rate}"
    made = generator(text)
    requests = list(made.generate())
    assert requests == generated(text)
    assert len({request.request_id for request in requests}) == count
    assert requests[0].arrival_ns == 0
    assert all(earlier.arrival_ns <= later.arrival_ns for earlier, later in pairwise(requests))
    for request in requests:
        assert 1 <= request.prompt.num_tokens <= made.longest_prompt_tokens
        assert all(0 <= token_id < VOCABULARY_SIZE for token_id in token_ids(request))
        assert request.output_tokens >= 1
        if request.output_ids is not None:
            assert len(request.output_ids) == request.output_tokens


@pytest.mark.parametrize("name", known_generators())
def test_a_shorter_workload_is_the_start_of_a_longer_one(name: str) -> None:
    """The number of requests decides only where a workload ends."""
    assert generated(f"{name}:requests=30") == generated(f"{name}:requests=60")[:30]


@pytest.mark.parametrize("name", known_generators())
def test_another_seed_gives_another_workload(name: str) -> None:
    """Seeds reach both contents and times."""
    one, other = (generated(f"{name}:requests=20,seed={seed}") for seed in (1, 2))
    assert [token_ids(request) for request in one] != [token_ids(request) for request in other]
    assert [request.arrival_ns for request in one] != [request.arrival_ns for request in other]


@pytest.mark.parametrize("name", ["rag", "system-prompts", "unshared"])
def test_requests_arrive_at_the_rate(name: str) -> None:
    """The mean gap of a Poisson process is 1 / rate, here within five standard errors."""
    count, rate = 2_000, 50.0
    short = {"rag": "document_tokens=1", "system-prompts": "system_tokens=1", "unshared": "prompt_tokens=1"}[
        name
    ]
    last = generated(f"{name}:requests={count},rate={rate},{short}")[-1]
    assert last.arrival_ns / 10**9 * rate / count == pytest.approx(1.0, abs=5 / sqrt(count))


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 6), st.floats(0.0, 100.0))
def test_chat_turns_extend_the_conversation(seed: int, turns: int, think_seconds: float) -> None:
    """Each turn's prompt starts with the prompt and the answer before it, comes later, and goes on."""
    requests = generated(
        f"chat:requests=60,seed={seed},turns={turns},think_seconds={think_seconds},system_tokens=20,"
        "user_tokens=5,output_tokens=5"
    )
    last_of_session: dict[str, WorkloadRequest] = {}
    for request in requests:
        assert request.session_id is not None
        before = last_of_session.get(request.session_id)
        if before is not None:
            assert before.output_ids is not None
            history = token_ids(before) + tuple(before.output_ids)
            assert token_ids(request)[: len(history)] == history
            assert request.prompt.num_tokens > len(history)
            assert request.arrival_ns >= before.arrival_ns
        last_of_session[request.session_id] = request
    assert len({token_ids(request)[:20] for request in requests}) == 1


def test_chat_reaches_its_rate_once_sessions_return() -> None:
    """After a few think times, requests arrive at `rate`: here over the second half, within a tenth."""
    rate = 20.0
    requests = generated(
        f"chat:requests=8000,rate={rate},think_seconds=5,system_tokens=1,user_tokens=1,output_tokens=1"
    )
    middle, last = requests[4_000], requests[-1]
    seconds = (last.arrival_ns - middle.arrival_ns) / 10**9
    assert 4_000 / seconds == pytest.approx(rate, rel=0.1)


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 5))
def test_system_prompts_are_shared_and_users_are_not(seed: int, groups: int) -> None:
    """There are as many first parts as groups, each used by many, and no two requests are equal after it."""
    requests = generated(
        f"system-prompts:requests=100,seed={seed},groups={groups},system_tokens=64,user_tokens=32"
    )
    assert len({token_ids(request)[:64] for request in requests}) == groups
    assert len({token_ids(request)[64 : 64 + BLOCK_SIZE] for request in requests}) == len(requests)


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 6), st.integers(1, 4))
def test_rag_shares_an_instruction_and_documents(
    seed: int, documents: int, documents_per_request: int
) -> None:
    """One instruction, then documents out of a common few, in any order, then an unshared question."""
    requests = generated(
        f"rag:requests=150,seed={seed},documents={documents},documents_per_request={documents_per_request},"
        "instruction_tokens=8,document_tokens=16,question_tokens=32"
    )
    num_read = min(documents, documents_per_request)
    end = 8 + 16 * num_read
    library: set[tuple[int, ...]] = set()
    first_documents: set[tuple[int, ...]] = set()
    for request in requests:
        ids = token_ids(request)
        read = [ids[start : start + 16] for start in range(8, end, 16)]
        assert len(set(read)) == num_read
        library.update(read)
        first_documents.add(read[0])
    assert len({token_ids(request)[:8] for request in requests}) == 1
    assert len(library) == documents
    assert first_documents == library
    assert len({token_ids(request)[end : end + BLOCK_SIZE] for request in requests}) == len(requests)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_unshared_prompts_share_no_first_block(seed: int) -> None:
    """No prefix cache finds even one block."""
    requests = generated(f"unshared:requests=200,seed={seed},prompt_tokens=32")
    assert len({token_ids(request)[:BLOCK_SIZE] for request in requests}) == len(requests)


def test_the_same_bytes_in_another_process() -> None:
    """Nothing depends on Python's hash seed, which differs from process to process."""
    program = (
        "import sys\n"
        "from understudy.tokenize import encode\n"
        "from understudy.workload import known_generators, open_trace, poisson, write_native\n"
        "for name in known_generators():\n"
        "    write_native(poisson(open_trace(f'{name}:requests=20,seed=3'), 2.0, 1), sys.stdout.buffer)\n"
        "sys.stdout.buffer.write(repr(encode('the same text')).encode())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("chats:requests=5", "unknown generator 'chats': did you mean chat?"),
        ("chat:request=5", "unknown parameter of chat 'request': did you mean requests?"),
        ("chat:requests", "chat: expected PARAMETER=VALUE, got 'requests'"),
        ("chat:requests=1,requests=2", "chat: requests is given twice"),
        ("chat:requests=0", "chat: requests must be an integer from 1 to 1,000,000,000, got '0'"),
        ("chat:requests=ten", "chat: requests must be an integer from 1 to 1,000,000,000, got 'ten'"),
        ("rag:rate=nan", "rag: rate must be a number from 1e-06 to 1e+06 a second, got 'nan'"),
        ("rag:rate=inf", "rag: rate must be a number from 1e-06 to 1e+06 a second, got 'inf'"),
        ("unshared:seed=-1", f"unshared: seed must be an integer from 0 to {2**63 - 1:,}, got '-1'"),
        (
            "unshared:prompt_tokens=16777216",
            "unshared:prompt_tokens=16777216: prompts may have 16,777,216 tokens, these 25,165,824",
        ),
    ],
)
def test_wrong_parameters_are_told(text: str, problem: str) -> None:
    """The error names the parameter, what it must be and what was given."""
    with pytest.raises(UsageError) as error:
        generator(text)
    assert str(error.value) == problem


def test_a_generated_trace_is_named_by_its_parameters() -> None:
    """It has no bytes to hash, knows its length, and gives the same requests each time it is iterated."""
    trace = open_trace("chat:requests=30,seed=5", limit=20)
    assert (trace.name, trace.format, trace.sha256) == ("chat:requests=30,seed=5", "generated", None)
    assert trace.num_requests == 20
    assert list(trace) == list(trace) == generated("chat:requests=30,seed=5")[:20]
