"""Which workers may get requests, judged by how requests to them end and by probes.

A pure state machine in the manner of Envoy's outlier detection and active health checks. Times are nanoseconds of one
clock that never goes back.
"""

from dataclasses import dataclass
from enum import StrEnum

NS_PER_SECOND = 1_000_000_000

ERRORS_TO_EJECT = 5
"""Errors in a row, as Envoy's consecutive_5xx and consecutive_gateway_failure."""
EJECTION_NS = 30 * NS_PER_SECOND
"""How long the first ejection lasts, and by how much each further one in a row is longer; Envoy's base_ejection_time."""
MAX_EJECTION_NS = 300 * NS_PER_SECOND
"""Envoy's max_ejection_time."""
CALM_NS = 10 * NS_PER_SECOND
"""So long without ejection takes one from the number of those in a row: Envoy's interval, at which it does so."""
LARGEST_EJECTED_PART = 2
"""Errors eject at most every second worker. Envoy's 10 % and at least one would leave small fleets to a bad worker."""
PROBES_TO_FAIL = 3
PROBES_TO_PASS = 2
"""Failed probes in a row that make a worker unhealthy, and passed ones that make it healthy again: as Envoy's guides,
SGLang's and vLLM's routers have them. The very first one passed is enough, as in Envoy."""


class Failure(StrEnum):
    """How a request to a worker failed."""

    NO_CONNECTION = "no_connection"
    """Nobody was there to take it."""
    ERROR = "error"
    """It was taken, and answered as a gateway's errors are, or the connection was lost."""


class Health(StrEnum):
    """What is thought of a worker."""

    STARTING = "starting"
    """No probe has passed yet."""
    HEALTHY = "healthy"
    EJECTED = "ejected"
    """Too many errors in a row; until its time is over."""
    UNREACHABLE = "unreachable"
    """It refused a connection; until its time is over or a probe passes."""
    UNHEALTHY = "unhealthy"
    """Too many probes in a row failed; until enough have passed."""


@dataclass(slots=True)
class _Worker:
    probed: Health = Health.STARTING
    probes_in_a_row: int = 0
    """Passed ones; failed ones count below 0."""
    errors_in_a_row: int = 0
    ejections_in_a_row: int = 0
    ejected_ns: int = 0
    ejected_until_ns: int = 0
    refused_connection: bool = False
    """Whether that is why it is ejected, or was last."""


class FleetHealth:
    """Of each worker, by its slot, whether it may get requests.

    Errors eject at most half of the workers that can be reached, those that were ejected first; where nobody is left, all
    but those that are still starting may get requests: something may work, and nothing would not.

    What is told of slots that are not in the fleet is ignored: a worker's last requests may end after it has left.
    """

    def __init__(self) -> None:
        self._workers: dict[int, _Worker] = {}
        self._usable: tuple[int, ...] | None = ()
        self._next_change_ns: int | None = None

    def add(self, slot: int) -> None:
        """Let a worker join, of which nothing is known."""
        assert slot not in self._workers
        self._workers[slot] = _Worker()
        self._usable = None

    def remove(self, slot: int) -> None:
        """Let a worker leave."""
        del self._workers[slot]
        self._usable = None

    def succeeded(self, slot: int) -> None:
        """Note that a request to the worker ended well."""
        worker = self._workers.get(slot)
        if worker is not None:
            worker.errors_in_a_row = 0

    def failed(self, slot: int, failure: Failure, now_ns: int) -> None:
        """Note that a request to the worker failed; while it is ejected, errors of requests sent before do not count."""
        worker = self._workers.get(slot)
        if worker is None:
            return
        if now_ns < worker.ejected_until_ns:
            if failure is Failure.NO_CONNECTION and not worker.refused_connection:
                worker.refused_connection = True
                self._usable = None
            return
        if failure is Failure.ERROR:
            worker.errors_in_a_row += 1
            if worker.errors_in_a_row < ERRORS_TO_EJECT:
                return
        self._eject(worker, failure, now_ns)

    def probed(self, slot: int, now_ns: int, *, passed: bool) -> None:
        """Note that the worker was asked how it is, and whether it said that it is well."""
        worker = self._workers.get(slot)
        if worker is None:
            return
        if passed:
            worker.probes_in_a_row = max(worker.probes_in_a_row, 0) + 1
            self._readmit_if_reachable(worker, now_ns)
            if worker.probed is Health.STARTING or worker.probes_in_a_row >= PROBES_TO_PASS:
                self._think(worker, Health.HEALTHY)
        else:
            worker.probes_in_a_row = min(worker.probes_in_a_row, 0) - 1
            if worker.probed is Health.HEALTHY and worker.probes_in_a_row <= -PROBES_TO_FAIL:
                self._think(worker, Health.UNHEALTHY)

    def usable(self, now_ns: int) -> tuple[int, ...]:
        """Return the slots of those that may get requests, ascending; the same object while nothing has changed."""
        if self._usable is None or (self._next_change_ns is not None and now_ns >= self._next_change_ns):
            self._usable = self._find_usable(now_ns)
            ends_ns = (worker.ejected_until_ns for worker in self._workers.values())
            self._next_change_ns = min((end_ns for end_ns in ends_ns if end_ns > now_ns), default=None)
        return self._usable

    def next_change_ns(self, now_ns: int) -> int | None:
        """Return when an ejection is over next, None where nobody is ejected."""
        self.usable(now_ns)
        return self._next_change_ns

    def state(self, slot: int, now_ns: int) -> Health:
        """Return what is thought of a worker. One that is ejected, or worse, may be usable all the same."""
        worker = self._workers[slot]
        if worker.probed is Health.HEALTHY and now_ns < worker.ejected_until_ns:
            return Health.UNREACHABLE if worker.refused_connection else Health.EJECTED
        return worker.probed

    def _eject(self, worker: _Worker, failure: Failure, now_ns: int) -> None:
        calm_periods = (now_ns - worker.ejected_until_ns) // CALM_NS
        worker.ejections_in_a_row = max(worker.ejections_in_a_row - calm_periods, 0) + 1
        worker.ejected_ns = now_ns
        worker.ejected_until_ns = now_ns + min(worker.ejections_in_a_row * EJECTION_NS, MAX_EJECTION_NS)
        worker.refused_connection = failure is Failure.NO_CONNECTION
        worker.errors_in_a_row = 0
        self._usable = None

    def _readmit_if_reachable(self, worker: _Worker, now_ns: int) -> None:
        if worker.refused_connection and now_ns < worker.ejected_until_ns:
            worker.ejected_until_ns = now_ns
            self._usable = None

    def _think(self, worker: _Worker, probed: Health) -> None:
        if worker.probed is not probed:
            worker.probed = probed
            self._usable = None

    def _find_usable(self, now_ns: int) -> tuple[int, ...]:
        states = {slot: self.state(slot, now_ns) for slot in sorted(self._workers)}
        by_errors = [slot for slot, state in states.items() if state is Health.EJECTED]
        by_errors.sort(key=lambda slot: (self._workers[slot].ejected_ns, slot))
        healthy = [slot for slot, state in states.items() if state is Health.HEALTHY]
        most_ejected = (len(healthy) + len(by_errors)) // LARGEST_EJECTED_PART
        usable = sorted(healthy + by_errors[most_ejected:])
        return tuple(usable or (slot for slot, state in states.items() if state is not Health.STARTING))
