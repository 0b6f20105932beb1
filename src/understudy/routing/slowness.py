"""Finds workers that answer, but much more slowly than the others, and spares them all but a trickle of requests.

Neither long answers nor long prompts nor a full worker may be taken for a slow one, so nothing is judged by how long requests
take. An engine takes one step after another; in each, every answer under way gets a token, and some tokens of prompts
are computed. Its time is spent on both: with `a` seconds for a step and `c` for a prompt token,

    a * speed + c * prefill <= 1        speed    tokens a second of one answer: tokens / time of all answers under way
                                        prefill  prompt tokens a second, cached ones left out, while any prompt waits

and while prompts wait the two sides are equal. So whatever its work is, a healthy worker has at least half of what is
possible of one of the two, and what is possible of speed while no prompts wait; one that is f times slower has at most 1/f of
both. What is possible is what the better half of the fleet has, so

    slowness = max(min(by speed, by prefill), by speed * undisturbed)
    by speed = their speed / (own speed * allowance); by prefill = their prefill / own prefill
    undisturbed: the part of the time of all answers under way in which no prompt waits
    allowance = sqrt(own context / their context), at least 1; context: prompt tokens of all answers under way

is at most 2 for a healthy worker among its like, and much more only for a slow one. The allowance is for steps that take
longer the more context they read. They do so in proportion to `weights + context`: between any two contexts, as far as a
GPU's memory allows, that is little more than the root of their ratio.

Two things look like slowness from here: work that others send to a worker, and prompts that it takes to be cached by mistake.
In a fleet of very different GPUs the slowest seem slow, since they are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt

from understudy.routing.worker_speed import Speed, Watched, WorkerSpeed

NS_PER_SECOND = 1_000_000_000

JUDGED_EVERY_NS = NS_PER_SECOND // 2
SLOW = 4.0
"""Twice what a healthy worker may seem; one that is ten times slower than its like seems at least 5 times slower."""
NORMAL = 2.0
VERDICTS_IN_A_ROW = 2
"""So often a worker must seem slow, or normal, to be taken for it."""
ENOUGH_STREAM_NS = NS_PER_SECOND // 2
"""Of less time of answers under way nothing is concluded."""
ANOTHER_CHANCE_NS = 60 * NS_PER_SECOND
"""A slow worker that could not be judged for so long is taken for normal again."""
LARGEST_SLOW_PART = 2
"""At most every second worker is taken for slow: what most of them are is normal."""
TRICKLE_PERIOD = 128
TRICKLE_PERIOD_PER_WORKER = 8
"""Every 128th request may go to slow workers, or the 8 * workers-th: fewer than 1 %, so that they are not what the 99th
percentile is, and an eighth of a fair share."""


@dataclass(slots=True)
class _Worker:
    speed: WorkerSpeed = field(default_factory=WorkerSpeed)
    slowness: float = 1.0
    judged_ns: int = 0
    is_slow: bool = False
    dissents: int = 0
    """Judgements in a row that contradict `is_slow`."""


class SlowWorkers:
    """Which workers, by their slots, are slow. Times are nanoseconds of one clock that never goes back.

    Only streamed answers tell when their tokens come: no others may be watched.
    """

    def __init__(self) -> None:
        self._workers: dict[int, _Worker] = {}
        self._slow: frozenset[int] = frozenset()
        self._judge_at_ns = 0
        self._kept_away = 0

    def add(self, slot: int) -> None:
        """Let a worker join, of which nothing is known."""
        assert slot not in self._workers
        self._workers[slot] = _Worker()

    def remove(self, slot: int) -> None:
        """Let a worker leave; what is watched of it may still be told its end."""
        del self._workers[slot]
        self._slow = self._slowest()

    def watch(self, slot: int, prompt_tokens: int, uncached_tokens: int, now_ns: int) -> Watched:
        """Return what measures a streamed answer that is asked for now.

        `uncached_tokens` of its prompt must be computed, as far as is known; that a policy did not look is no reason to
        count all of them.
        """
        return self._workers[slot].speed.watch(prompt_tokens, uncached_tokens, now_ns)

    def slow(self, now_ns: int) -> frozenset[int]:
        """Return the slots of the slow workers, judged anew twice a second."""
        if now_ns >= self._judge_at_ns:
            self._judge_at_ns = now_ns + JUDGED_EVERY_NS
            self._judge(now_ns)
        return self._slow

    def spared(self, candidates: Sequence[int], now_ns: int) -> Sequence[int]:
        """Return those of these slots that may get the next request: all, or without slow ones where others are left."""
        slow = self.slow(now_ns)
        others = [slot for slot in candidates if slot not in slow] if slow else []
        if not others or len(others) == len(candidates):
            return candidates
        self._kept_away += 1
        if self._kept_away < max(TRICKLE_PERIOD, TRICKLE_PERIOD_PER_WORKER * len(self._workers)):
            return others
        self._kept_away = 0
        return candidates

    def _judge(self, now_ns: int) -> None:
        speeds = {slot: worker.speed.measure(now_ns) for slot, worker in self._workers.items()}
        norm = Speed(
            ENOUGH_STREAM_NS,
            1.0,
            _median([measured.speed for measured in speeds.values()], higher=True),
            _median([measured.prefill for measured in speeds.values()], higher=True),
            _median([measured.context for measured in speeds.values()], higher=False),
        )
        for slot, worker in self._workers.items():
            if speeds[slot].stream_ns >= ENOUGH_STREAM_NS:
                worker.slowness = slowness(speeds[slot], norm)
                worker.judged_ns = now_ns
                _conclude(worker)
            elif now_ns - worker.judged_ns >= ANOTHER_CHANCE_NS:
                worker.is_slow = False
        self._slow = self._slowest()

    def _slowest(self) -> frozenset[int]:
        slow = [slot for slot, worker in self._workers.items() if worker.is_slow]
        slow.sort(key=lambda slot: -self._workers[slot].slowness)
        return frozenset(slow[: len(self._workers) // LARGEST_SLOW_PART])


def slowness(own: Speed, norm: Speed) -> float:
    """Return how many times slower than the norm a worker is, at least, by the formula above."""
    allowance = max(1.0, sqrt(_ratio(own.context, norm.context)))
    by_speed = _ratio(norm.speed, own.speed) / allowance
    by_prefill = _ratio(norm.prefill, own.prefill)
    excused = min(by_speed, by_prefill)
    return max(excused, by_speed * own.undisturbed) if own.undisturbed else excused


def _conclude(worker: _Worker) -> None:
    contradicted = worker.slowness <= NORMAL if worker.is_slow else worker.slowness >= SLOW
    worker.dissents = worker.dissents + 1 if contradicted else 0
    if worker.dissents == VERDICTS_IN_A_ROW:
        worker.is_slow = not worker.is_slow
        worker.dissents = 0


def _median(values: Collection[float | None], *, higher: bool) -> float | None:
    """Return the median of what is known, of two in the middle the higher or the lower one."""
    known = sorted((value for value in values if value is not None), reverse=higher)
    return known[(len(known) - 1) // 2] if known else None


def _ratio(one: float | None, other: float | None) -> float:
    """Return one / other, without bound where one of them is not known."""
    if one is None or other is None:
        return inf
    if not other:
        return inf if one else 1.0
    return one / other
