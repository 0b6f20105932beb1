"""Which data-parallel rank gets a request: vLLM's internal balancing, which does not look at prefixes.

(vllm/v1/engine/core_client.py DPLBAsyncMPClient and vllm/v1/engine/coordinator.py, 0.33.0)
"""

from collections.abc import Callable, Sequence

from understudy.engine import Gauges

SNAPSHOT_SECONDS = 0.1
"""How often the coordinator tells what waits and runs on each engine."""
_WAITING_WEIGHT = 6
_USAGE_WITHOUT_PENALTY = 0.5


class RankChooser:
    """Takes the engine with the smallest score; of equals, the first from a start that moves on by one each time.

    The score is what is in flight to the engine, or what ran and waited there at the last snapshot if that is more;
    where requests waited, more for a KV cache over half full.
    """

    def __init__(
        self, num_ranks: int, gauges: Callable[[], Sequence[Gauges]], now_seconds: Callable[[], float]
    ) -> None:
        self.in_flight = [0] * num_ranks
        self._gauges = gauges
        self._now_seconds = now_seconds
        self._snapshot = [Gauges(0, 0, 0.0)] * num_ranks
        self._snapshot_seconds: float | None = None
        self._start = 0

    def choose(self) -> int:
        """Return the rank for the next request."""
        num_ranks = len(self.in_flight)
        if num_ranks == 1:
            return 0
        self._look()
        order = [(self._start + offset) % num_ranks for offset in range(num_ranks)]
        self._start = (self._start + 1) % num_ranks
        rank = min(order, key=self._score)
        gauges = self._snapshot[rank]
        self._snapshot[rank] = gauges._replace(waiting=gauges.waiting + 1)
        return rank

    def _look(self) -> None:
        now_seconds = self._now_seconds()
        if self._snapshot_seconds is None or now_seconds - self._snapshot_seconds >= SNAPSHOT_SECONDS:
            self._snapshot_seconds = now_seconds
            self._snapshot = list(self._gauges())

    def _score(self, rank: int) -> float:
        gauges = self._snapshot[rank]
        score: float = max(self.in_flight[rank], gauges.waiting + gauges.running)
        if gauges.waiting:
            score += gauges.waiting * _WAITING_WEIGHT * max(0.0, gauges.kv_usage - _USAGE_WITHOUT_PENALTY)
        return score
