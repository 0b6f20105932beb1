"""Compares two trials of a case field by field, and counts each comparison under the behaviour that it is evidence for.

A comparison is by equality. Two sides that both have nothing to show (no preemption, no event, ...) are not counted
as a comparison, so a behaviour that no case provokes has no evidence. What differs after the first differing iteration
is its consequence, and not compared.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from understudy.verify.cases import Case, Json
from understudy.verify.tally import Tallies
from understudy.verify.trial import Trial

STATE_FIELDS = (
    ("status of", "batching"),
    ("computed tokens of", "token_counts"),
    ("tokens of", "token_counts"),
    ("output placeholders of", "token_counts"),
    ("tokens in flight of", "token_counts"),
    ("stale output tokens of", "memory_pressure"),
    ("preemptions of", "memory_pressure"),
    ("blocks of", "paging"),
    ("cached blocks of", "full_blocks_only"),
)
"""What a request's state holds behind its id, and the behaviour that it is evidence for."""

TOTALS = ("free blocks", "running", "waiting")


class Difference(NamedTuple):
    """The first iteration that is not the same on both sides; a side that had ended has none.

    `iteration` is None where all iterations are the same, and something that is no part of one differs.
    """

    iteration: int | None
    theirs: Json | None
    ours: Json | None


def compare_trials(
    case: Case, theirs: Trial, ours: Trial, tallies: Tallies, where: str, *, tokens_hidden: bool = False
) -> Difference | None:
    """Count the comparisons of a case; return where it first differs, if it does."""
    comparison = _Comparison(case, tallies, tokens_hidden=tokens_hidden)
    same_hashes = theirs.hashes == ours.hashes
    for number, (their_record, our_record) in enumerate(zip_longest(theirs.log, ours.log)):
        if same_hashes:
            mine, yours = our_record, their_record
        else:
            mine, yours = _spelled_out(our_record, ours.hashes), _spelled_out(their_record, theirs.hashes)
        comparison.iteration(f"{where}, iteration {number}", yours, mine)
        if mine != yours:
            return Difference(
                number, _spelled_out(their_record, theirs.hashes), _spelled_out(our_record, ours.hashes)
            )
    comparison.hashes(where, theirs, ours)
    if theirs.chains != ours.chains:
        return Difference(None, {"chains": theirs.chains}, {"chains": ours.chains})
    return None


class _Comparison:
    def __init__(self, case: Case, tallies: Tallies, *, tokens_hidden: bool) -> None:
        self._tallies = tallies
        traits = _traits(case) | {"hidden_tokens": tokens_hidden}
        self._whole = [key for key, applies in traits.items() if applies]
        self._where = ""
        self._lines = {line["id"]: line for line in case.workload}
        self._reads = case.config["enable_prefix_caching"]
        self._pause = "none"

    def hashes(self, where: str, theirs: Trial, ours: Trial) -> None:
        """Compare the whole hashes; those of a request's last block stand for all, because each covers the one before."""
        self._where = where
        for name in sorted({*theirs.chains, *ours.chains}):
            self._compare("block_hashing", "chain of", theirs.chains.get(name), ours.chains.get(name), name)

    def iteration(self, where: str, theirs: Json | None, ours: Json | None) -> None:
        """Compare all that an iteration shows."""
        self._where = where
        for key in self._whole:
            self._compare(key, "all", theirs, ours)
        if theirs is None or ours is None or "error" in ours:
            self._compare("batching", "iteration", theirs, ours)
            return
        self._inbox(theirs, ours)
        self._paused(theirs, ours)
        self._plan(theirs, ours)
        self._results(theirs, ours)
        self._cache(theirs, ours)

    def _inbox(self, theirs: Json, ours: Json) -> None:
        for key, field in (("aborts", "aborted"), ("cache_reset", "reset")):
            if field in theirs or field in ours:
                self._compare(key, field, theirs.get(field), ours.get(field))
                self._compare(key, "all", theirs, ours)

    def _paused(self, theirs: Json, ours: Json) -> None:
        """Compare what a pause leaves alone: in its iterations, and in the first one behind it."""
        scopes = {self._pause, theirs.get("pause", self._pause)}
        self._pause = theirs.get("pause", self._pause)
        if scopes != {"none"} and (theirs["requests"] or ours["requests"]):
            self._compare("pauses", "all", theirs, ours)

    def _plan(self, theirs: Json, ours: Json) -> None:
        self._compare_any("batching", "batch", _ids(theirs["scheduled"]), _ids(ours["scheduled"]))
        for name, (their_tokens, our_tokens) in _by_id(theirs["scheduled"], ours["scheduled"]):
            self._compare("token_counts", "tokens of", their_tokens, our_tokens, name)
        for field in ("new", "resumed"):
            self._compare_any("batching", field, _ids(theirs[field]), _ids(ours[field]))
            for name, (their_cached, our_cached) in _by_id(theirs[field], ours[field]):
                if self._lines[name].get("skip_reading_prefix_cache"):
                    key = "skip_reading_prefix_cache"
                else:
                    key = "recompute_from_miss" if self._reads else "token_counts"
                self._compare(key, "cached tokens of", their_cached, our_cached, name)
        if theirs["preempted"] or ours["preempted"] or theirs["resumed"] or ours["resumed"]:
            self._compare("memory_pressure", "preempted", theirs["preempted"], ours["preempted"])
            self._compare("memory_pressure", "all", theirs, ours)
        for moment in ("planned", "totals"):
            for name, their_total, our_total in zip(TOTALS, theirs[moment], ours[moment], strict=True):
                key = "paging" if name == "free blocks" else "batching"
                self._compare(key, name, their_total, our_total, moment)

    def _results(self, theirs: Json, ours: Json) -> None:
        self._compare("batching", "whether a step is completed", theirs["completed"], ours["completed"])
        self._compare_any("batching", "outputs", _ids(theirs["outputs"]), _ids(ours["outputs"]))
        for name, (their_output, our_output) in _by_id(theirs["outputs"], ours["outputs"]):
            self._compare("stop_rules", "output of", their_output, our_output, name)
        for name, (their_state, our_state) in _by_id(theirs["requests"], ours["requests"]):
            for position, (field, key) in enumerate(STATE_FIELDS):
                self._compare_any(key, field, _at(their_state, position), _at(our_state, position), name)
        self._compare_any("batching", "queues", _ids(theirs["requests"]), _ids(ours["requests"]))

    def _cache(self, theirs: Json, ours: Json) -> None:
        for their_event, our_event in zip_longest(theirs["events"], ours["events"]):
            self._compare("kv_events", "event", their_event, our_event)
            kinds = {event[0] for event in (their_event, our_event) if event is not None}
            if "stored" in kinds:
                self._compare("block_hashing", "stored", _at(their_event, 1), _at(our_event, 1))
            if "removed" in kinds:
                self._compare("eviction_order", "removed", their_event, our_event)
        self._compare_any("eviction_order", "queue", theirs["evictable"], ours["evictable"])
        self._compare_any("reference_counting", "references", theirs["referenced"], ours["referenced"])
        self._compare_any("block_caching", "cached blocks", theirs["cached"], ours["cached"])
        self._compare("paging", "usage", theirs["usage"], ours["usage"])
        if any(output[2] for record in (theirs, ours) for output in record["outputs"]) or "aborted" in ours:
            self._compare_any(
                "freed_stay_cached", "evictable", sorted(theirs["evictable"]), sorted(ours["evictable"])
            )
        self._compare_any("prefix_statistics", "counters", theirs["statistics"], ours["statistics"])

    def _compare(self, key: str, what: str, theirs: object, ours: object, of: str = "") -> None:
        where = "" if theirs == ours else f"{self._where}: {what} {of}".rstrip()
        self._tallies.compare(key, where, theirs, ours)

    def _compare_any(self, key: str, what: str, theirs: object, ours: object, of: str = "") -> None:
        """Compare, unless both are nothing."""
        if theirs or ours:
            self._compare(key, what, theirs, ours, of)


def _traits(case: Case) -> dict[str, bool]:
    """Return which behaviours rule a whole case, so that each of its iterations is evidence for them."""
    config = case.config
    return {
        "async_scheduling": config["async_scheduling"],
        "priorities": config["scheduling_policy"] == "priority",
        "chunked_prefill": config["enable_chunked_prefill"],
        "unchunked_prefill": not config["enable_chunked_prefill"],
        "watermark": config["watermark"] > 0,
        "full_prompt_reservation": config["scheduler_reserve_full_isl"],
        "long_prefill_threshold": config["long_prefill_token_threshold"] > 0,
        "prefill_schedule_interval": config["prefill_schedule_interval"] > 1,
        "max_num_active_seqs": config["max_num_active_seqs"] is not None,
        "max_num_scheduled_tokens": config["max_num_scheduled_tokens"] is not None,
        "without_prefix_caching": not config["enable_prefix_caching"],
    }


def _ids(entries: Sequence[Sequence[object]]) -> list[object]:
    return [entry[0] for entry in entries]


def _at(entry: Sequence[object] | None, position: int) -> object:
    return None if entry is None else entry[position]


def _by_id(
    theirs: Sequence[Sequence[object]], ours: Sequence[Sequence[object]]
) -> Iterator[tuple[str, tuple[list[object] | None, list[object] | None]]]:
    """Yield for each id what either side has behind it."""
    their_entries = {str(entry[0]): list(entry[1:]) for entry in theirs}
    our_entries = {str(entry[0]): list(entry[1:]) for entry in ours}
    for name in their_entries | our_entries:
        yield name, (their_entries.get(name), our_entries.get(name))


def _spelled_out(record: Json | None, hashes: Sequence[str]) -> Json | None:
    """Return a record with the hashes themselves in the place of their numbers; -1 is a block in the wrong place."""
    if record is None or "error" in record:
        return record
    spelled = [*hashes, "a block without a hash"]
    return record | {
        "events": [spelled_event(event, hashes) for event in record["events"]],
        "evictable": [spelled[number] for number in record["evictable"]],
        "referenced": sorted([spelled[number], count] for number, count in record["referenced"]),
    }


def spelled_event(event: list[Any], hashes: Sequence[str]) -> list[object]:
    """Return a recorded event with the hashes themselves in the place of their numbers."""
    match event:
        case ["stored", numbers, parent, *rest]:
            parent_hash = None if parent is None else hashes[parent]
            return ["stored", [hashes[number] for number in numbers], parent_hash, *rest]
        case ["removed", number]:
            return ["removed", hashes[number]]
        case _:
            return event
