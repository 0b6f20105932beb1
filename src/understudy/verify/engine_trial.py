"""Our engine in virtual time against vLLM's trial: grouped decoding and steps taken many at once change nothing.

Every step takes one tick. So vLLM's log says when each step starts and ends, and with it when each request is
scheduled, when each token comes, when events are published, and what is in use at any time. The engine is told of arrivals,
aborts and pauses at the times at which vLLM was, and left free to take as many steps at once as it likes.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from understudy.engine import (
    BlockHash,
    Engine,
    EngineConfig,
    KVCacheEvent,
    PauseScope,
    Request,
    event_hash,
    unknown_tokens,
)
from understudy.latency import StepShape
from understudy.verify.cases import Case, Json
from understudy.verify.step_evidence import Difference, spelled_event
from understudy.verify.tally import Tallies
from understudy.verify.trial import (
    HASH_SEED,
    Inbox,
    Trial,
    counters,
    event_line,
    new_request,
    shared_prefixes,
)

KEY = "steps_at_once"
TICK_NS = 1_000
NEVER_NS = 1 << 62

Gauge = tuple[int, int, int]
"""Used blocks, running and waiting requests."""


@dataclass(slots=True)
class RequestTimes:
    """When what happened to a request, in nanoseconds, and the tokens that it got."""

    queued_ns: int
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    tokens: list[int] = field(default_factory=list)
    num_preemptions: int = 0
    num_cached_tokens: int | None = None


@dataclass(slots=True)
class Timeline:
    """All that an engine shows in virtual time. `gauges` has an entry for each change, by its time."""

    requests: dict[str, RequestTimes] = field(default_factory=dict)
    events: list[tuple[int, list[object]]] = field(default_factory=list)
    gauges: dict[int, Gauge] = field(default_factory=dict)
    gaps_ns: Counter[int] = field(default_factory=Counter)
    num_steps: int = 0
    num_evicted_blocks: int = 0
    evictable: list[str] = field(default_factory=list)
    statistics: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Reading:
    """What an engine reads from its inbox, and when."""

    at_ns: int
    arrivals: list[tuple[int, Json]]
    aborts: list[str]
    pauses: list[PauseScope]


def suits_engine(case: Case) -> bool:
    """Whether an engine in virtual time can be told of everything when vLLM's scheduler was."""
    return case.fills_pipeline and not case.resets


def expected_timeline(case: Case, theirs: Trial) -> tuple[Timeline, list[_Reading]]:
    """Return what vLLM's log comes to in virtual time, and when it was told of what."""
    timeline, readings, inbox = Timeline(), [], Inbox(case)
    gauges: list[tuple[int, Gauge]] = []
    ends: deque[int] = deque()
    now_ns, filling = 0, False
    for number, record in enumerate(theirs.log):
        if not filling:
            arrivals, aborts = inbox.take_arrivals(number), inbox.take_aborts(number)
            reading = _Reading(now_ns, arrivals, aborts, inbox.take_pauses(number))
            if reading.arrivals or reading.aborts or reading.pauses:
                readings.append(reading)
            for _, line in reading.arrivals:
                timeline.requests[line["id"]] = RequestTimes(now_ns)
        for name, cached_tokens in record["new"]:
            timeline.requests[name].scheduled_ns = now_ns
            timeline.requests[name].num_cached_tokens = cached_tokens
        for name in record["preempted"]:
            timeline.requests[name].num_preemptions += 1
        gauges.append((now_ns, _gauge(case, record["planned"])))
        if record["scheduled"]:
            ends.append(max(now_ns, ends[-1] if ends else 0) + TICK_NS)
            timeline.num_steps += 1
        filling = not record["completed"] and bool(record["scheduled"] or record["preempted"])
        if record["completed"]:
            now_ns = ends.popleft()
            _take_outputs(timeline, record, now_ns)
        timeline.num_evicted_blocks += sum(event[0] == "removed" for event in record["events"])
        timeline.events += [(now_ns, spelled_event(event, theirs.hashes)) for event in record["events"]]
        if not record["completed"] and not filling:
            now_ns += TICK_NS
    if theirs.log:
        gauges.append((now_ns, _gauge(case, theirs.log[-1]["totals"])))
        timeline.evictable = [theirs.hashes[number] for number in theirs.log[-1]["evictable"]]
        timeline.statistics = theirs.log[-1]["statistics"]
    timeline.gauges = _changes(gauges)
    return timeline, readings


class _Drive:
    """Drives an engine, and is its latency model and observer."""

    def __init__(self, case: Case, *, hide_tokens: bool, record_events: bool) -> None:
        config = EngineConfig(**case.config)
        self._outputs = {line["id"]: line["outputs"] for line in case.workload}
        self._prefixes = shared_prefixes(case, hide_tokens=hide_tokens)
        self._engine = Engine(
            config,
            self,
            sample=unknown_tokens if hide_tokens else self._sample,
            observer=self,
            hash_seed=HASH_SEED,
            record_events=record_events,
        )
        self._requests: list[Request] = []
        self._gauges: list[tuple[int, Gauge]] = []
        self._timeline = Timeline()
        self._events: list[tuple[int, KVCacheEvent]] = []

    def timeline(self, readings: list[_Reading]) -> Timeline:
        """Return what the engine shows when it is told of what there is to read."""
        engine, timeline = self._engine, self._timeline
        times = [*(reading.at_ns for reading in readings), NEVER_NS]
        for reading, following_ns in zip(readings, times[1:], strict=True):
            self._run_until(reading.at_ns)
            for position, line in reading.arrivals:
                self._requests.append(new_request(position, line, self._prefixes))
                engine.add(self._requests[-1])
            for request_id in reading.aborts:
                engine.abort(request_id)
            for scope in reading.pauses:
                engine.scheduler.pause = scope
            if engine.next_ns is None:
                self._step(reading.at_ns, following_ns)
        self._run_until(NEVER_NS)
        assert engine.records_events or not self._events, "nothing is published that is not recorded"
        timeline.requests = {request.request_id: _times(request) for request in self._requests}
        timeline.events = [(at_ns, event_line(event, _hexadecimal)) for at_ns, event in self._events]
        timeline.gauges = _changes(self._gauges)
        timeline.num_steps = engine.num_steps
        kv_cache = engine.scheduler.kv_cache
        timeline.num_evicted_blocks = kv_cache.pool.num_evicted_blocks
        timeline.evictable = [_hexadecimal(block_hash) for block_hash in kv_cache.pool.evictable_hashes()]
        timeline.statistics = counters(kv_cache.stats)
        return timeline

    def _run_until(self, until_ns: int) -> None:
        while (next_ns := self._engine.next_ns) is not None and next_ns < until_ns:
            self._step(next_ns, until_ns)

    def _step(self, now_ns: int, until_ns: int) -> None:
        self._events += self._engine.step(now_ns, until_ns=until_ns).events
        self._engine.scheduler.check_integrity()

    def _sample(self, request: Request, count: int) -> list[int]:
        first = request.num_output_tokens
        known = self._outputs[request.request_id][first : first + count]
        return [*known, *[0] * (count - len(known))]

    def step_ns(self, shape: StepShape) -> int:
        """Price a step, as a LatencyModel does."""
        assert shape.prefills or shape.num_decodes, "a step that computes nothing is not taken"
        return TICK_NS

    def decode_steps_ns(self, num_decodes: int, context_tokens: int, count: int) -> list[int]:
        """Price steps that do nothing but decode."""
        assert num_decodes <= context_tokens, "whoever decodes has computed a token"
        return [TICK_NS] * count

    def gauges(self, at_ns: int, used_blocks: int, running: int, waiting: int) -> None:
        """Take the state from a time on, as an EngineObserver does."""
        self._gauges.append((at_ns, (used_blocks, running, waiting)))

    def inter_token(self, gap_ns: int, count: int) -> None:
        """Take the time between two tokens of a request."""
        self._timeline.gaps_ns[gap_ns] += count


def compare_engine(case: Case, theirs: Trial, tallies: Tallies, where: str) -> Difference | None:
    """Count what our engine shows against what vLLM's log comes to, and return the first difference.

    The engine runs with and without recording events, and where tokens can be hidden, with and without knowing them.
    """
    for hide_tokens, record_events in product({False, case.segment_tokens is not None}, (True, False)):
        expected, readings = expected_timeline(case, theirs)
        try:
            shown = _Drive(case, hide_tokens=hide_tokens, record_events=record_events).timeline(readings)
        except Exception as error:  # noqa: BLE001 - whatever we raise where vLLM goes on is a disagreement
            told = f"{type(error).__name__}: {error}"
            tallies.compare(KEY, f"{where}, engine", "ends", told)
            return Difference(None, {"engine": "ends"}, {"error": told})
        if not record_events:
            expected.events = []
        if hide_tokens:
            expected, shown = _without_tokens(expected), _without_tokens(shown)
        if difference := _compare(expected, shown, tallies, where):
            return difference
    return None


def _compare(expected: Timeline, shown: Timeline, tallies: Tallies, where: str) -> Difference | None:
    difference = None
    for name in sorted({*expected.requests, *shown.requests}):
        theirs, ours = expected.requests.get(name), shown.requests.get(name)
        if not tallies.compare(KEY, f"{where}, engine: times of {name}", theirs, ours):
            difference = difference or Difference(None, {name: str(theirs)}, {name: str(ours)})
    for part in ("events", "gauges", "gaps_ns", "num_steps", "num_evicted_blocks", "evictable", "statistics"):
        their_part, our_part = getattr(expected, part), getattr(shown, part)
        if not tallies.compare(KEY, f"{where}, engine: {part}", their_part, our_part):
            difference = difference or Difference(None, {part: str(their_part)}, {part: str(our_part)})
    return difference


def _without_tokens(timeline: Timeline) -> Timeline:
    """Return what is left when nobody knows tokens, nor the hashes that are made of them: those are numbered instead."""
    numbers: dict[object, int] = {None: -1}

    def number(block_hash: object) -> int:
        return numbers.setdefault(block_hash, len(numbers))

    events: list[tuple[int, list[object]]] = []
    for at_ns, event in timeline.events:
        match event:
            case ["stored", [*hashes], parent, _token_ids, *rest]:
                parts = [[number(block_hash) for block_hash in hashes], number(parent), *rest]
                events.append((at_ns, ["stored", *parts]))
            case ["removed", block_hash]:
                events.append((at_ns, ["removed", number(block_hash)]))
            case _:
                events.append((at_ns, event))
    requests = {
        name: replace(times, tokens=[0] * len(times.tokens)) for name, times in timeline.requests.items()
    }
    evictable = [str(number(block_hash)) for block_hash in timeline.evictable]
    return replace(timeline, requests=requests, events=events, evictable=evictable)


def _gauge(case: Case, totals: Sequence[int]) -> Gauge:
    free, running, waiting = totals
    return case.config["num_gpu_blocks"] - 1 - free, running, waiting


def _take_outputs(timeline: Timeline, record: Json, now_ns: int) -> None:
    for name, token, _reason, _cached in record["outputs"]:
        request = timeline.requests[name]
        request.tokens.append(token)
        if request.last_token_ns is None:
            request.first_token_ns = now_ns
        else:
            timeline.gaps_ns[now_ns - request.last_token_ns] += 1
        request.last_token_ns = now_ns


def _times(request: Request) -> RequestTimes:
    assert request.queued_ns is not None, "the engine has read its inbox"
    return RequestTimes(
        request.queued_ns,
        request.scheduled_ns,
        request.first_token_ns,
        request.last_token_ns,
        request.token_ids[request.num_prompt_tokens :] or [0] * request.num_output_tokens,
        request.num_preemptions,
        request.num_cached_tokens,
    )


def _changes(gauges: Iterable[tuple[int, Gauge]]) -> dict[int, Gauge]:
    """Keep of each time the last report, and of these the ones that differ from the one before."""
    changes: dict[int, Gauge] = {}
    last: Gauge = (0, 0, 0)
    for at_ns, gauge in dict(gauges).items():
        if gauge != last:
            changes[at_ns] = last = gauge
    return changes


def _hexadecimal(block_hash: BlockHash) -> str:
    return f"{event_hash(block_hash):x}"
