"""How punctually requests were sent, by a clock on the wall: whoever sends late measures something else."""

from collections.abc import Callable

LATE_SECONDS = 0.01
"""From here on a request counts as late. Timers alone come up to a millisecond late."""


class Punctuality:
    """Counts requests that were late because this client could not keep up, and those that had to wait for a connection."""

    def __init__(self) -> None:
        self.num_late = 0
        self.latest_seconds = 0.0
        self.num_held_back = 0
        self.longest_held_back_seconds = 0.0
        self._held_back_until_ns = -1

    def held_back_until(self, now_ns: int) -> None:
        """Hear that no connection was free until now; requests that were due before had to wait too."""
        self._held_back_until_ns = now_ns

    def sent(self, due_ns: int, now_ns: int, wall_seconds: Callable[[int], float]) -> None:
        """Take a request that is sent now."""
        seconds = wall_seconds(now_ns - due_ns)
        if due_ns < self._held_back_until_ns:
            self.num_held_back += 1
            self.longest_held_back_seconds = max(self.longest_held_back_seconds, seconds)
        elif seconds > LATE_SECONDS:
            self.num_late += 1
            self.latest_seconds = max(self.latest_seconds, seconds)
