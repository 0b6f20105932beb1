"""What a long prompt costs the router before it goes to a worker: tokens, hashes and the choice, by the router's own parts.

    python -m benchmarks.routing_choice

Each worker holds another part of the prompt. Times are medians of CPU time.
"""

import json
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable
from functools import partial

from benchmarks.servers import TOKENIZER

from understudy.engine.hashing import BlockHasher
from understudy.gateway.choice import Choice
from understudy.gateway.fleet import Fleet, FleetLimits, Policy
from understudy.gateway.inbound import Inbound
from understudy.gateway.prompt import Prompt, PromptReader
from understudy.gateway.upstream import Upstream, WorkerAddress
from understudy.routing import Decision, Knowledge, RoutingRequest, load_policy
from understudy.tokenize import load_tokenizer

NUM_WORKERS = 64
LARGE_FLEET = 4_000
PROMPT_TOKENS = 8_192
BLOCK_SIZE = 16
MAX_IN_FLIGHT = 8
REPETITIONS = 50

_PATH = "/v1/completions"
_WORDS = (
    "the",
    "router",
    "reads",
    "a",
    "prompt",
    "and",
    "asks",
    "whose",
    "cache",
    "holds",
    "most",
    "of",
    "it",
)


def main() -> None:
    """Measure and print everything."""
    print(f"a prompt of {PROMPT_TOKENS:,} tokens before {NUM_WORKERS} workers, milliseconds")
    print(f"  {'':44}{'tokens, hashes':>16}{'choice':>10}")
    for name, tokenizer, body in (
        ("token ids", None, _ids_body()),
        ("text, with the emulated workers' tokenizer", None, _text_body(None)),
        ("text, with a byte-level tokenizer", str(TOKENIZER), _text_body(str(TOKENIZER))),
    ):
        reader = PromptReader(load_tokenizer(tokenizer), BlockHasher("sha256", BLOCK_SIZE))
        reading_ms = _median_ms(partial(_read, reader, body))
        prompt = _read(reader, body)
        print(f"  {name:44}{reading_ms:16.2f}{_choice_ms(prompt, NUM_WORKERS, num_full=0):10.2f}")
    print(f"the choice among {LARGE_FLEET:,} workers, milliseconds")
    for name, num_full in (("of all", 0), ("of all but one that has its fill", 1)):
        print(f"  {name:44}{_choice_ms(prompt, LARGE_FLEET, num_full=num_full):26.2f}")


def _ids_body() -> bytes:
    rng = random.Random(0)
    return _body([rng.randrange(128_000) for _ in range(PROMPT_TOKENS)])


def _text_body(source: str | None) -> bytes:
    tokenizer, rng = load_tokenizer(source), random.Random(0)
    text = " ".join(rng.choice(_WORDS) for _ in range(PROMPT_TOKENS))
    num_characters = bisect_left(
        range(len(text)), PROMPT_TOKENS, key=lambda length: len(tokenizer.encode(text[:length]))
    )
    return _body(text[:num_characters])


def _body(prompt: str | list[int]) -> bytes:
    return json.dumps({"model": "m", "prompt": prompt}).encode()


def _read(reader: PromptReader, body: bytes) -> Prompt:
    prompt = reader.read(_PATH, body, {})
    assert prompt is not None
    assert prompt.num_tokens == PROMPT_TOKENS
    return prompt


def _choice_ms(prompt: Prompt, num_workers: int, *, num_full: int) -> float:
    fleet = _fleet(prompt, num_workers, num_full)
    inbound = Inbound(
        method="POST",
        target=_PATH,
        headers=(),
        body=b"",
        model=prompt.model,
        routing=_request("asked", prompt),
        has_prompt=True,
    )
    return _median_ms(lambda: fleet.choose(inbound, ()))


def _fleet(prompt: Prompt, num_workers: int, num_full: int) -> Fleet:
    """Return workers that are well and busy; the first so many have their fill."""
    rng = random.Random(0)
    limits = FleetLimits(
        max_in_flight_per_worker=MAX_IN_FLIGHT, max_blocks_per_worker=1_000_000, own_record_seconds=600
    )
    fleet = Fleet(Policy("prefix", load_policy("prefix")), limits)
    for number in range(num_workers):
        address = WorkerAddress.parse(f"http://10.0.{number // 250}.{number % 250}:8000")
        member = fleet.add(address.url, Upstream(address))
        fleet.state.set_knowledge(member.slot, Knowledge.EVENTS)
        fleet.state.stored(member.slot, prompt.block_hashes[: rng.randrange(len(prompt.block_hashes))])
        fleet.state.reported(member.slot, rng.randrange(64), rng.randrange(8), rng.random(), 0)
        fleet.probed(member, passed=True)
        for place in range(MAX_IN_FLIGHT if number < num_full else rng.randrange(MAX_IN_FLIGHT)):
            request = _request(f"{number}/{place}", prompt)
            fleet.dispatched(Choice(member, Decision(member.slot, 0, ""), request), wants_stream=False)
    return fleet


def _request(name: str, prompt: Prompt) -> RoutingRequest:
    return RoutingRequest(
        request_id=name,
        num_prompt_tokens=prompt.num_tokens,
        block_hashes=prompt.block_hashes,
        block_size=BLOCK_SIZE,
    )


def _median_ms(call: Callable[[], object]) -> float:
    times_ns: list[int] = []
    for _ in range(REPETITIONS):
        start_ns = time.process_time_ns()
        call()
        times_ns.append(time.process_time_ns() - start_ns)
    return statistics.median(times_ns) / 1e6


if __name__ == "__main__":
    main()
