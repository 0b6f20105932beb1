"""Sentences about a replay that a reader must not miss: whose clock, what failed, what was late, what is not known."""

from collections.abc import Sequence

from understudy.replay.prompt_tokens import PromptTokens
from understudy.replay.punctuality import LATE_SECONDS
from understudy.replay.record import REFUSED, UNFINISHED, WHOLE, ReplayRecord
from understudy.replay.replay import Replay
from understudy.replay.survey import Survey

_MAX_KINDS_NAMED = 5


def notes_on_replay(
    replay: Replay, survey: Survey, tokens: PromptTokens, *, wanted_connections: int
) -> list[str]:
    """Return a sentence for each thing that a reader would otherwise take for granted."""
    records = replay.records
    notes = [
        _speed(replay.settings.speed),
        *_failures(records),
        _refused(records),
        _late(replay),
        _connections(replay.settings.max_connections, wanted_connections),
        _held_back(replay),
        _shortened(replay),
        _other_lengths(replay),
        _cache(records),
        _outputs(survey.num_with_outputs),
        _contradictions(tokens.num_contradictions),
    ]
    return [note for note in notes if note]


def _connections(allowed: int, wanted: int) -> str:
    if allowed == wanted:
        return ""
    return f"This process may open no more files than for {allowed:,} connections at once, of {wanted:,} allowed."


def _speed(speed: float) -> str:
    if speed == 1.0:
        return ""
    return (
        f"All times are on the trace's clock, which went {speed:g} times as fast as one on the wall: they compare with a "
        f"server whose own clock does, such as understudy serve --time-scale {1 / speed:.6g}. Of a server in real time, divide "
        f"them by {speed:g}."
    )


def _failures(records: Sequence[ReplayRecord]) -> list[str]:
    """Return a sentence for each kind of failure, the most frequent first, with what was said the first time."""
    accounted = {*WHOLE, REFUSED, UNFINISHED}
    by_status: dict[str, list[ReplayRecord]] = {}
    for record in records:
        if record.seen.status not in accounted:
            by_status.setdefault(record.seen.status, []).append(record)
    kinds = sorted(by_status.items(), key=lambda item: (-len(item[1]), item[0]))
    notes = []
    for status, failed in kinds[:_MAX_KINDS_NAMED]:
        said = next((record.message for record in failed if record.message), None)
        first = f" The first said: {said}" if said else ""
        notes.append(f"{_of(len(failed), len(records))} failed: {status}. Nothing is sent twice.{first}")
    return notes


def _refused(records: Sequence[ReplayRecord]) -> str:
    number = sum(record.seen.status == REFUSED for record in records)
    if not number:
        return ""
    return (
        f"{_of(number, len(records))} {'was' if number == 1 else 'were'} refused: no room for an answer in the model's "
        "context."
    )


def _late(replay: Replay) -> str:
    punctuality = replay.punctuality
    if not punctuality.num_late:
        return ""
    return (
        f"{_of(punctuality.num_late, len(replay.records))} {_was(punctuality.num_late)} sent more than "
        f"{LATE_SECONDS * 1000:g} ms late by a clock on the wall, up to {punctuality.latest_seconds:.3g} s: this client could "
        "not keep up. Times count from when a request was due; requests.jsonl has both."
    )


def _held_back(replay: Replay) -> str:
    punctuality = replay.punctuality
    if not punctuality.num_held_back:
        return ""
    return (
        f"{_of(punctuality.num_held_back, len(replay.records))} {_was(punctuality.num_held_back)} held back, up to "
        f"{punctuality.longest_held_back_seconds:.3g} s by a clock on the wall, because {replay.settings.max_connections:,} "
        "connections were in use (--max-connections). Times count from when a request was due."
    )


def _shortened(replay: Replay) -> str:
    number = replay.num_shortened
    if not number:
        return ""
    answers = "answer was" if number == 1 else "answers were"
    return f"{number:,} {answers} asked for shorter than in the trace, to end where the model's context does."


def _other_lengths(replay: Replay) -> str:
    number = replay.num_of_other_length
    if not number:
        return ""
    return f"{_of(number, len(replay.records))} got an answer of another length than asked for: does the server know ignore_eos?"


def _cache(records: Sequence[ReplayRecord]) -> str:
    finished = [record for record in records if record.seen.status in WHOLE]
    num_silent = sum(record.seen.cached_tokens is None for record in finished)
    if not num_silent:
        return ""
    which = (
        "No answer tells"
        if num_silent == len(finished)
        else f"{num_silent:,} of {len(finished):,} answers do not tell"
    )
    return f"{which} how many tokens came from the cache; vLLM does with --enable-prompt-tokens-details."


def _outputs(num_with_outputs: int) -> str:
    if not num_with_outputs:
        return ""
    return (
        "The trace says what was answered, but a server answers for itself: prompts that repeat recorded answers find less "
        "of themselves cached than in a simulation."
    )


def _contradictions(number: int) -> str:
    if not number:
        return ""
    return (
        f"{number:,} segments of the trace's prompts have an id that stood behind other segments before. A simulation takes them "
        "to be equal all the same, a server does not."
    )


def _of(number: int, total: int) -> str:
    return f"{number:,} of {total:,} requests"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
