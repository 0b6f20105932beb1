"""Results of earlier runs beside new ones: a replay next to what the simulator says of the same trace."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from understudy.errors import InputError
from understudy.fleet import Comparison, RunSummary

_ARRIVALS = ("arrivals", "rate", "burstiness", "concurrency", "think_seconds", "limit", "speed")
"""The settings that decide which requests arrive when; those that are missing are at their defaults."""


class Results(NamedTuple):
    """What a results folder holds."""

    folder: str
    comparison: Comparison


def load_results(folder: Path) -> Results:
    """Read the summary of a results folder. Raises InputError if there is none, or it is none of ours."""
    path = folder / "summary.json"
    try:
        comparison = msgspec.json.decode(path.read_bytes(), type=Comparison)
    except OSError as error:
        raise InputError(f"--with {folder}: cannot read {path.name}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"--with {folder}: {path.name} is no summary of results: {error}") from None
    return Results(folder.name or str(folder), comparison)


def with_others(comparison: Comparison, others: Sequence[Results]) -> Comparison:
    """Return the comparison with the runs of the others before its own, whose last may be one that was interrupted.

    Notes say where the others are about other requests. Settings of theirs that differ are named after their folder.
    """
    if not others:
        return comparison
    own = [run.policy for run in comparison.runs]
    counts = Counter([*own, *(run.policy for other in others for run in other.comparison.runs)])
    runs: list[RunSummary] = []
    notes: list[str] = list(comparison.notes)
    settings = dict(comparison.settings)
    for folder, other in others:
        theirs = [_renamed(run, folder, counts) for run in other.runs]
        runs += theirs
        names = ", ".join(run.policy for run in theirs)
        notes += (f"{names}: {note}" for note in (*_differences(comparison, other), *other.notes))
        settings |= {
            f"{folder}: {name}": value
            for name, value in other.settings.items()
            if name not in settings or settings[name] != value
        }
    return replace(comparison, runs=[*runs, *comparison.runs], notes=notes, settings=settings)


def _renamed(run: RunSummary, folder: str, counts: Counter[str]) -> RunSummary:
    return run if counts[run.policy] == 1 else replace(run, policy=f"{run.policy} ({folder})")


def _differences(ours: Comparison, theirs: Comparison) -> list[str]:
    """Return in which ways the requests were not the same."""
    found = []
    if (ours.trace_sha256 or ours.trace) != (theirs.trace_sha256 or theirs.trace):
        found.append(f"these results are of another trace, {theirs.trace}.")
    differing = [
        f"{name} {theirs.settings.get(name)} instead of {ours.settings.get(name)}"
        for name in _ARRIVALS
        if theirs.settings.get(name) != ours.settings.get(name)
    ]
    if differing:
        found.append(f"these results are of other arrivals: {', '.join(differing)}.")
    if theirs.interrupted:
        found.append("this run was stopped early.")
    return found
