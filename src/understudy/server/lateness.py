"""Says when steps start later than planned: in a metric always, in the log when it is more than a stutter."""

import logging
from collections.abc import Callable

from understudy.server.metrics import ServerMetrics

LATE_SECONDS = 0.1
"""A step that starts later than this is worth a line."""
_QUIET_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Lateness:
    """Hears how late each step starts; logs at most a line in ten seconds. `now_seconds` is any clock."""

    def __init__(self, metrics: ServerMetrics, now_seconds: Callable[[], float]) -> None:
        self._metrics = metrics
        self._now_seconds = now_seconds
        self._num_late = 0
        self._worst_seconds = 0.0
        self._told_seconds = -_QUIET_SECONDS

    def __call__(self, late_seconds: float) -> None:
        """Take how late a step started, in seconds."""
        self._metrics.step_lag(late_seconds)
        if late_seconds < LATE_SECONDS:
            return
        self._num_late += 1
        self._worst_seconds = max(self._worst_seconds, late_seconds)
        now_seconds = self._now_seconds()
        if now_seconds - self._told_seconds >= _QUIET_SECONDS:
            _log.warning(
                "Falling behind: %d step(s) started late, up to %.3f s after their time. "
                "Give this process more CPU, or raise --time-scale.",
                self._num_late,
                self._worst_seconds,
            )
            self._told_seconds = now_seconds
            self._num_late, self._worst_seconds = 0, 0.0
