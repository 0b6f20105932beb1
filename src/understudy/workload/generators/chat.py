"""Conversations: every turn's prompt is the whole conversation so far and what the user says next.

The answers' token ids are given, so what the engine caches while answering is a prefix of the next turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from understudy.engine import TokenPrompt
from understudy.workload.generators.parameters import (
    CommonParameters,
    Count,
    Seconds,
    Tokens,
    around,
    at_most,
    chance,
    random_tokens,
)
from understudy.workload.request import WorkloadRequest
from understudy.workload.timing import poisson_times

_NS_PER_SECOND = 1_000_000_000


@dataclass(slots=True)
class _Session:
    session_id: str
    history: tuple[int, ...]
    turn: int
    num_turns: int


class Chat(CommonParameters, frozen=True, kw_only=True):
    """Sessions start as a Poisson process of `rate` / `turns` a second, which reaches `rate` in time.

    `turns` and the lengths are means, but for `system_tokens`, the one system prompt before every
    conversation. `think_seconds` is the mean, of an exponential distribution, from the arrival of one turn to
    that of the next: it includes the time that the answer takes. When the last request is made, some sessions
    are not over.
    """

    turns: Count = 5
    system_tokens: Tokens = 256
    user_tokens: Tokens = 64
    output_tokens: Tokens = 192
    think_seconds: Seconds = 30.0

    @property
    def longest_prompt_tokens(self) -> int:
        """Upper bound of the prompts."""
        turn_tokens = at_most(self.user_tokens) + at_most(self.output_tokens)
        return self.system_tokens + at_most(self.turns) * turn_tokens

    def generate(self) -> Iterator[WorkloadRequest]:
        """Yield the requests; held are the sessions that go on, about `rate` x `think_seconds` of them."""
        rng = chance(self.seed, "chat")
        system = random_tokens(chance(self.seed, "system prompt"), self.system_tokens)
        starts_ns = poisson_times(chance(self.seed, "arrivals"), self.rate / self.turns)
        start_ns, num_sessions = next(starts_ns), 0
        due: list[tuple[int, int, _Session]] = []
        for _ in range(self.requests):
            while not due or start_ns <= due[0][0]:
                session = _Session(f"session-{num_sessions}", system, 0, around(rng, self.turns))
                heappush(due, (start_ns, num_sessions, session))
                start_ns, num_sessions = next(starts_ns), num_sessions + 1
            now_ns, number, session = heappop(due)
            user = random_tokens(rng, around(rng, self.user_tokens))
            answer = random_tokens(rng, around(rng, self.output_tokens))
            prompt = session.history + user
            yield WorkloadRequest(
                request_id=f"{session.session_id}-turn-{session.turn}",
                arrival_ns=now_ns,
                prompt=TokenPrompt(prompt),
                output_tokens=len(answer),
                output_ids=answer,
                session_id=session.session_id,
            )
            session.history = prompt + answer
            session.turn += 1
            if session.turn < session.num_turns:
                think_ns = round(rng.expovariate(1.0) * self.think_seconds * _NS_PER_SECOND)
                heappush(due, (now_ns + think_ns, number, session))
