"""Server-sent events: read, and folded into what does not depend on how tokens were merged into events."""

import json
from contextlib import suppress
from typing import Any

from tests.differential.values import once

Event = dict[str, Any]
_COUNTED = ("token_ids", "logprobs")


def parsed_events(text: str) -> list[Event]:
    """Return the events of a stream, each as its fields; `data` as a value where it is JSON, and a rest that is no event as it is."""
    *blocks, rest = text.split("\n\n")
    events = [_event(block) for block in blocks]
    return [*events, {"rest": rest}] if rest else events


def _event(block: str) -> Event:
    event: Event = {}
    for line in block.split("\n"):
        name, separator, value = line.partition(": ")
        if not separator or name in event:
            return {"no event": block}
        event[name] = value
    if "data" in event:
        with suppress(ValueError):
            event["data"] = json.loads(event["data"])
    return event


def folded(events: list[Event]) -> dict[str, Any]:
    """Return a stream as what came before the text, each choice's events, and what came after them.

    Alike consecutive events count once; what they carried for each token is counted over the whole choice.
    """
    first = next((place for place, event in enumerate(events) if _choice(event) is not None), len(events))
    last = next(
        (place for place in range(len(events), first, -1) if _choice(events[place - 1]) is not None), first
    )
    choices: dict[int, list[Event]] = {}
    between = []
    for event in events[first:last]:
        choice = _choice(event)
        if choice is None:
            between.append(event)
        else:
            choices.setdefault(choice["index"], []).append(event)
    return {
        "before": once(events[:first]),
        "choices": {str(index): _of_choice(choices[index]) for index in sorted(choices)},
        "between": once(between),
        "after": once(events[last:]),
    }


def _choice(event: Event) -> dict[str, Any] | None:
    """Return the one choice that a chunk has text for."""
    data = event.get("data")
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice: dict[str, Any] = choices[0]
    if not isinstance(choice.get("index"), int):
        return None
    delta = choice.get("delta")
    return None if isinstance(delta, dict) and "role" in delta else choice


def _of_choice(events: list[Event]) -> dict[str, Any]:
    counts = dict.fromkeys(_COUNTED, 0)
    for event in events:
        choice = event["data"]["choices"][0]
        for name in _COUNTED:
            value = choice.get(name)
            if isinstance(value, dict) and "counted" in value:
                counts[name] += value["counted"]
                choice[name] = {"of each token": value["each"]}
        _forget_usage_so_far(event["data"], choice)
    return {"events": once(events), "tokens": counts}


def _forget_usage_so_far(data: dict[str, Any], choice: dict[str, Any]) -> None:
    usage = data.get("usage")
    if isinstance(usage, dict) and choice.get("finish_reason") is None:
        for name in ("completion_tokens", "total_tokens"):
            if isinstance(usage.get(name), int):
                usage[name] = "<so far>"
