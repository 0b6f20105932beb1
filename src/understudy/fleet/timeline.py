"""Averages over time of what a worker reports, in a bounded number of intervals.

Everything is integrated in integers, so the averages do not depend on how often the same value is reported.
"""

from understudy.fleet.summary import Series

MAX_INTERVALS = 240

_FIRST_INTERVAL_NS = 1 << 20
_NS_PER_SECOND = 1_000_000_000


class Timeline:
    """Blocks in use, running and waiting requests over time; implements the engine's observer for gauges.

    When time outgrows MAX_INTERVALS, neighbouring intervals are merged and become twice as long.
    """

    def __init__(self) -> None:
        self.peak_blocks = 0
        self.at_ns = 0
        """How far time has come."""
        self._start_ns = 0
        self._interval_ns = _FIRST_INTERVAL_NS
        self._areas: list[tuple[int, int, int]] = []
        self._area = (0, 0, 0)
        self._interval_end_ns = _FIRST_INTERVAL_NS
        self._value = (0, 0, 0)

    def start(self, at_ns: int) -> None:
        """Let the first interval begin here, before anything is reported."""
        self._start_ns = self.at_ns = at_ns
        self._interval_end_ns = at_ns + self._interval_ns

    def gauges(self, at_ns: int, used_blocks: int, running: int, waiting: int) -> None:
        """Take the values that hold from `at_ns` on; time never runs back."""
        if at_ns > self.at_ns:
            self._integrate(at_ns)
        self._value = (used_blocks, running, waiting)
        self.peak_blocks = max(self.peak_blocks, used_blocks)

    def finish(self, at_ns: int) -> None:
        """Let the last values hold until the end of the run."""
        if at_ns > self.at_ns:
            self._integrate(at_ns)

    @property
    def block_ns(self) -> int:
        """Blocks in use, integrated over time."""
        return sum(area[0] for area in self._areas) + self._area[0]

    def series(self, num_blocks: int, end_ns: int) -> Series:
        """Return the averages of each interval from the start to `end_ns`, blocks as a share of `num_blocks`."""
        areas = [*self._areas, self._area]
        duration_ns = end_ns - self._start_ns
        widths = [
            min(self._interval_ns, duration_ns - index * self._interval_ns)
            for index in range(-(-duration_ns // self._interval_ns))
        ]
        pairs = list(zip(areas, widths, strict=False))
        return Series(
            interval_seconds=self._interval_ns / _NS_PER_SECOND,
            kv_usage=[round(area[0] / (width * max(num_blocks, 1)), 6) for area, width in pairs],
            running=[round(area[1] / width, 4) for area, width in pairs],
            waiting=[round(area[2] / width, 4) for area, width in pairs],
        )

    def _integrate(self, at_ns: int) -> None:
        while at_ns > self._interval_end_ns:
            self._add(self._interval_end_ns)
            self._areas.append(self._area)
            self._area = (0, 0, 0)
            if len(self._areas) == MAX_INTERVALS:
                self._merge()
            self._interval_end_ns = self._start_ns + (len(self._areas) + 1) * self._interval_ns
        self._add(at_ns)

    def _add(self, at_ns: int) -> None:
        duration_ns = at_ns - self.at_ns
        blocks, running, waiting = self._value
        area = self._area
        self._area = (
            area[0] + blocks * duration_ns,
            area[1] + running * duration_ns,
            area[2] + waiting * duration_ns,
        )
        self.at_ns = at_ns

    def _merge(self) -> None:
        areas = self._areas
        self._areas = [
            (left[0] + right[0], left[1] + right[1], left[2] + right[2])
            for left, right in zip(areas[::2], areas[1::2], strict=True)
        ]
        self._interval_ns *= 2
