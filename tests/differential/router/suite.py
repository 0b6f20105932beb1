"""A router before two real vLLM servers: `make test-router-vllm`, which builds the environment that they need.

No pattern of pytest finds this file, so it runs only where it is named. What a request must find in a cache is told from
the tokens alone; vLLM and the router must both say it, for every request that is sent when all before it was heard of.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest
from tests.differential.router.processes import (
    NEWS_SECONDS,
    NUM_GPU_BLOCKS,
    TOKENIZER,
    VLLM_ENVIRONMENT,
    Router,
    asked,
    router_before,
    until,
    vllm_servers,
)
from tests.differential.router.questions import conversation, documents, one_by_one, together
from tests.differential.router.session import Figures, Question, Session, usage_in

TOKENIZED = ("--tokenizer", TOKENIZER)
RIGHT = (*TOKENIZED, "--block-size", "16")
NUM_ONE_BY_ONE = 110
NUM_CONVERSATIONS, NUM_TURNS = 4, 5
NUM_WAVES, WAVE = 8, 8

WRONG = {
    "hash seed": ((*RIGHT, "--hash-seed", "7"), "no --hash-seed would fit"),
    "hash": (
        (*RIGHT, "--prefix-caching-hash-algo", "sha256_cbor"),
        "--prefix-caching-hash-algo sha256 would fit",
    ),
    "block size": ((*TOKENIZED, "--block-size", "32"), "--block-size 16 would fit"),
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Yield a client of a router that fits its two workers."""
    if not (VLLM_ENVIRONMENT / "bin" / "vllm").exists():
        pytest.fail(f"There is no {VLLM_ENVIRONMENT.name}; `make test-router-vllm` builds it.", pytrace=False)
    with (
        vllm_servers() as workers,
        router_before([worker.url for worker in workers], *RIGHT) as router,
    ):
        yield Session(router, workers)


def check(figures: Figures) -> None:
    """Check that all agree on what was cached, and that the request went where the most was."""
    assert figures.reported == figures.expected == figures.predicted, figures
    assert figures.worker in figures.best_workers, figures


def notes_of(router: Router) -> list[str]:
    """Return all that the router has to say against its workers."""
    return [note for worker in router.known() for note in worker["notes"]]


def wait_for_notes(router: Router, words: str) -> None:
    """Return when the router has said these words of each of its workers."""

    def has_said() -> bool:
        return all(words in " ".join(worker["notes"]) for worker in router.known())

    until(f"the router says {words!r} of each worker", has_said)


def test_requests_one_by_one(session: Session) -> None:
    """Of ids, texts, chats and responses, salted, streamed and whole blocks long, it is known what vLLM will find cached."""
    for question in one_by_one(Random(1), NUM_ONE_BY_ONE):
        check(session.ask(question))
    hits = [figures for figures in session.figures if figures.reported]
    assert len(hits) > NUM_ONE_BY_ONE // 2
    assert {figures.worker for figures in session.figures} == {0, 1}
    assert any(
        figures.prompt_tokens % 16 == 0 and figures.reported == figures.prompt_tokens - 16 for figures in hits
    )


def test_conversations(session: Session) -> None:
    """Each turn of a conversation goes where the turns before it are cached."""
    for number in range(NUM_CONVERSATIONS):
        answers: list[str] = []
        workers = set()
        for turn in range(NUM_TURNS):
            messages = conversation(Random(f"conversation {number}"), answers)
            figures = session.ask(Question(kind="chat", content=messages, is_streamed=turn % 2 == 1))
            check(figures)
            assert (figures.reported > 0) == (turn > 0)
            workers.add(figures.worker)
            answers.append(f"Answer {turn} of conversation {number}.")
        assert len(workers) == 1


def test_requests_at_once(session: Session) -> None:
    """Requests that come together are predicted as well, where none goes on from another."""
    random = Random(2)
    beginnings = documents(random, 6)
    for beginning in beginnings:
        check(session.ask(Question(kind="ids", content=beginning)))
    for _ in range(NUM_WAVES):
        for figures in session.ask_at_once(together(random, beginnings, WAVE)):
            check(figures)
            assert figures.reported > 0


def test_what_was_cached_before_is_replayed(session: Session) -> None:
    """A router that is started later knows all that the first one knows, and has nothing to say against its workers."""
    session.heard()
    with router_before(session.router.urls, *RIGHT) as router:
        held = [len(cache) for cache in session.caches]
        until("it knows all blocks", lambda: router.blocks_known() == held)
        assert notes_of(router) == []
    assert notes_of(session.router) == []
    assert {worker["knowledge"] for worker in session.router.known()} == {"events"}


def test_a_wrong_flag_is_told(session: Session) -> None:
    """A router that hashes otherwise says which flag would fit, and routes by its own record."""
    with ExitStack() as stack:
        routers = {
            name: stack.enter_context(router_before(session.router.urls, *flags))
            for name, (flags, _) in WRONG.items()
        }
        for name, router in routers.items():
            wait_for_notes(router, WRONG[name][1])
            assert {worker["knowledge"] for worker in router.known()} == {"own"}
            prompt = documents(Random(name), 1)[0]
            answers = [
                asked(
                    router.port, "POST", "/v1/completions", {"model": "m", "prompt": prompt, "max_tokens": 1}
                )
                for _ in range(3)
            ]
            assert {answer.status for answer in answers} == {200}
            assert len({answer.headers["X-Understudy-Worker"] for answer in answers}) == 1
            assert [answer.headers["X-Understudy-Reason"] for answer in answers[1:]] == ["longest prefix"] * 2
            first, *others = (json.loads(answer.text)["usage"]["prompt_tokens_details"] for answer in answers)
            assert first["cached_tokens"] == 0
            assert all(other["cached_tokens"] == len(prompt) - 16 for other in others)


def test_another_tokenizer_is_told(session: Session) -> None:
    """A router that makes other tokens of a text says so, and which flag is wrong."""
    with router_before(session.router.urls, "--block-size", "16") as router:
        wait_for_notes(router, "has another tokenizer")


def test_an_abandoned_stream_is_aborted(session: Session) -> None:
    """When a client goes away, the worker stops, and the router counts nothing in flight."""
    router = session.router
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=NEWS_SECONDS)
    body = {"model": "m", "prompt": [7] * 40, "max_tokens": 4000, "ignore_eos": True, "stream": True}
    headers = {"Content-Type": "application/json", "X-Request-Id": "abandoned"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    for _ in range(10):
        assert answer.readline()
    assert sum(worker.num_running() for worker in session.workers) == 1
    answer.close()
    connection.close()
    until("no request is running", lambda: not any(worker.num_running() for worker in session.workers))
    until("none is in flight", lambda: not any(worker["in_flight"] for worker in router.known()))
    assert router.log_of("abandoned")["outcome"] == "client_left"


def test_caches_are_reset_by_one_order(session: Session) -> None:
    """Both workers drop all, the router knows it, and what was cached is not, until it is again."""
    prompt = documents(Random(3), 1)[0]
    router = session.router
    answer = asked(router.port, "POST", "/reset_prefix_cache")
    assert (answer.status, answer.text) == (200, '{"success":true}')
    for cache in session.caches:
        cache.clear()
    check(session.ask(Question(kind="ids", content=prompt)))
    figures = session.ask(Question(kind="ids", content=prompt))
    check(figures)
    assert figures.reported == len(prompt) - 16


def test_what_was_evicted_is_not_expected(session: Session) -> None:
    """With caches that overflow, what the router expects of old and new prompts is what vLLM still has."""
    random = Random(4)
    prompts = [[random.randrange(300, 30_000) for _ in range(1000)] for _ in range(2 * NUM_GPU_BLOCKS // 50)]
    router = session.router

    def ask(prompt: list[int], name: str) -> tuple[int, int]:
        answer = session.answer(Question(kind="ids", content=prompt, num_answered=1), name)
        body = {"body": {"model": "m", "prompt": prompt}}
        # All comes in one step, and so do the events of what it stores and evicts.
        until(
            "it is heard of",
            lambda: 992 in cached_tokens(asked(router.admin_port, "POST", "/explain", body).text),
        )
        return usage_in(answer.text)["prompt_tokens_details"]["cached_tokens"], router.log_of(name)[
            "predicted_cached_tokens"
        ]

    for number, prompt in enumerate(prompts):
        assert ask(prompt, f"fills-{number}") == (0, 0)
    reported = set()
    for number in range(40):
        actual, predicted = ask(random.choice(prompts), f"returns-{number}")
        assert actual == predicted
        reported.add(actual)
    assert {0, 992} <= reported
    assert max(router.blocks_known()) < NUM_GPU_BLOCKS


def cached_tokens(explained: str) -> set[int]:
    """Return how many tokens of a prompt each worker has, as the router explains."""
    return {worker["cached_tokens"] for worker in json.loads(explained)["workers"]}


def test_enough_was_compared(session: Session) -> None:
    """The figures of all requests, for who reads the log."""
    hits = sum(figures.reported > 0 for figures in session.figures)
    cached = sum(figures.reported for figures in session.figures)
    print(
        f"{len(session.figures)} requests predicted as vLLM reported, {hits} of them hits of {cached} tokens"
    )
    assert len(session.figures) >= 200
