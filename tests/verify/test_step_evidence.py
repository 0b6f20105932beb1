"""Comparing two trials: equal ones agree everywhere, and whatever differs is a disagreement under its behaviour."""

from copy import deepcopy
from typing import Any

import pytest

from understudy.verify.behaviours import BEHAVIOURS
from understudy.verify.recorded import Recording, recordings
from understudy.verify.step_evidence import Difference, compare_trials
from understudy.verify.tally import Tallies
from understudy.verify.trial import Trial


@pytest.fixture(scope="module", name="recording")
def busy_recording() -> Recording:
    """Return the recording of an asynchronous case that shows the most."""
    return _busiest(async_scheduling=True)


@pytest.fixture(scope="module", name="sync_recording")
def busy_sync_recording() -> Recording:
    """Return the recording of a synchronous case that shows the most."""
    return _busiest(async_scheduling=False)


def _busiest(*, async_scheduling: bool) -> Recording:
    found = [
        recording
        for _, recording in recordings()
        if recording.case.config["async_scheduling"] is async_scheduling
    ]
    return max(found, key=lambda recording: sum(len(record["events"]) for record in recording.trial.log))


def _compare(recording: Recording, ours: Trial) -> tuple[Difference | None, dict[str, int]]:
    tallies = Tallies()
    difference = compare_trials(recording.case, recording.trial, ours, tallies, "here")
    disagreeing = {key: tally.disagreements for key, tally in tallies.by_key().items() if tally.disagreements}
    return difference, disagreeing


def test_a_trial_agrees_with_itself(recording: Recording) -> None:
    """Every comparison agrees, and each belongs to a row of the scorecard."""
    tallies = Tallies()
    ours = deepcopy(recording.trial)
    assert compare_trials(recording.case, recording.trial, ours, tallies, "here") is None
    by_key = tallies.by_key()
    assert sum(tally.disagreements for tally in by_key.values()) == 0
    assert by_key["async_scheduling"].comparisons == len(ours.log)
    assert by_key.keys() <= {behaviour.key for behaviour in BEHAVIOURS}


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("scheduled", "batching"),
        ("new", "batching"),
        ("preempted", "memory_pressure"),
        ("planned", "paging"),
        ("completed", "batching"),
        ("outputs", "batching"),
        ("events", "kv_events"),
        ("totals", "paging"),
        ("usage", "paging"),
        ("requests", "batching"),
        ("evictable", "eviction_order"),
        ("referenced", "reference_counting"),
        ("cached", "block_caching"),
        ("statistics", "prefix_statistics"),
    ],
)
def test_every_field_counts(recording: Recording, field: str, key: str) -> None:
    """A field that is not the same is a disagreement of its behaviour and of the whole iteration, which is the last one."""
    ours = deepcopy(recording.trial)
    step = next(i for i, record in enumerate(ours.log) if record[field])
    ours.log[step][field] = _other(ours.log[step][field])
    difference, disagreeing = _compare(recording, ours)
    assert difference is not None
    assert difference.iteration == step
    assert key in disagreeing
    assert disagreeing["async_scheduling"] == 1


@pytest.mark.parametrize(
    ("position", "key"),
    [(1, "batching"), (2, "token_counts"), (6, "memory_pressure"), (8, "paging"), (9, "full_blocks_only")],
)
def test_every_part_of_a_state_counts(recording: Recording, position: int, key: str) -> None:
    """What is known of a request belongs to the behaviour that decides it."""
    ours = deepcopy(recording.trial)
    step = next(i for i, record in enumerate(ours.log) if record["requests"])
    ours.log[step]["requests"][0][position] = "another"
    difference, disagreeing = _compare(recording, ours)
    assert difference is not None
    assert difference.iteration == step
    assert disagreeing.keys() >= {key}


def _paused_recording() -> tuple[Recording, list[bool]]:
    """Return a recording with pauses, and of which iterations it is told that a pause holds in them or ends with them."""
    for _, recording in recordings():
        scope, paused = "none", []
        for record in recording.trial.log:
            before, scope = scope, record.get("pause", scope)
            paused.append({before, scope} != {"none"} and bool(record["requests"]))
        if {True, False} <= set(paused):
            return recording, paused
    pytest.fail("no recording has pauses")


def test_pauses_have_iterations_of_their_own() -> None:
    """Those in which a pause holds, and the first one behind it; a difference in any of them counts, and in no other."""
    recording, paused = _paused_recording()
    tallies = Tallies()
    compare_trials(recording.case, recording.trial, recording.trial, tallies, "here")
    assert tallies["pauses"].comparisons == sum(paused)
    for step in (paused.index(True), paused.index(False)):
        ours = deepcopy(recording.trial)
        ours.log[step]["usage"] += 1
        _, disagreeing = _compare(recording, ours)
        assert ("pauses" in disagreeing) is paused[step]


def _other(value: Any) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case [*_, int()]:
            return [value[0] + 1, *value[1:]]
    return value[:-1]


def test_numbers_stand_for_hashes(sync_recording: Recording) -> None:
    """The same numbers for other hashes disagree, as soon as a block is stored: here in the iteration that takes it."""
    ours = deepcopy(sync_recording.trial)
    ours.hashes[0] = "0"
    difference, disagreeing = _compare(sync_recording, ours)
    assert difference is not None
    assert {"block_hashing", "kv_events"} <= disagreeing.keys()


def test_the_whole_hash_counts(recording: Recording) -> None:
    """Events show 64 bits of a hash; the rest is compared at the end."""
    ours = deepcopy(recording.trial)
    name, (count, last) = next((name, chain) for name, chain in ours.chains.items() if chain[1])
    assert last is not None
    ours.chains[name] = (count, "0" + last[1:] if last[0] != "0" else "1" + last[1:])
    difference, disagreeing = _compare(recording, ours)
    assert difference is not None
    assert difference.iteration is None
    assert disagreeing == {"block_hashing": 1}


@pytest.mark.parametrize("end", ["early", "late", "error"])
def test_another_end_is_a_disagreement(recording: Recording, end: str) -> None:
    """So is an engine that ends early, goes on, or breaks down."""
    ours = deepcopy(recording.trial)
    match end:
        case "early":
            ours.log.pop()
        case "late":
            ours.log.append(ours.log[-1])
        case _:
            ours.log[-1] = {"error": "AssertionError: no room"}
    difference, disagreeing = _compare(recording, ours)
    assert difference is not None
    assert difference.iteration == len(recording.trial.log) - (end != "late")
    assert disagreeing["batching"] == 1
