"""What vLLM's own parser made of command lines, and what ours makes of them.

`vllm_parses.json` was recorded from vLLM 0.33.0 by `record_vllm_parses`.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.arguments.parsing import outcome, parsed

from understudy.server.arguments import ServeArguments
from understudy.server.arguments.flags import OWN_FLAGS, read_catalogue
from understudy.server.arguments.parser import DEFAULT_HOST
from understudy.server.kv_events import read_kv_events_config

RECORDED: Mapping[str, Any] = json.loads(
    (Path(__file__).parent / "vllm_parses.json").read_text(encoding="utf-8")
)
OPTIONS: Mapping[str, str] = RECORDED["options"]
LONG_OPTIONS = sorted(name for name in OPTIONS if name.startswith("--") and name != "--help")
OWN_DESTS = {flag.dest for flag in OWN_FLAGS}
OWN_NAMES = {name for flag in OWN_FLAGS for name in (*flag.names, *flag.negative_names)}


def _as_recorded(arguments: ServeArguments) -> dict[str, Any]:
    values = {dest: value for dest, value in arguments.values.items() if dest not in OWN_DESTS}
    values["lora_modules"] = values["lora_modules"] and [
        dataclasses.asdict(module) for module in values["lora_modules"]
    ]
    events = values["kv_events_config"]
    if events is not None:
        values["kv_events_config"] = msgspec.structs.asdict(read_kv_events_config(events))
    if values["host"] == DEFAULT_HOST:
        values["host"] = None
    return values


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _changed(arguments: ServeArguments, defaults: Mapping[str, Any]) -> dict[str, Any]:
    values = _as_recorded(arguments)
    return {dest: value for dest, value in values.items() if json.dumps(value) != json.dumps(defaults[dest])}


def test_defaults_are_those_of_vllm() -> None:
    """Every flag of vLLM has its value here if nothing is given; flags that vLLM leaves unset are None."""
    defaults = dict.fromkeys(("logging_config", "log_level", "log_config_file"))
    assert _as_recorded(parsed()) == RECORDED["defaults"] | defaults


@pytest.mark.parametrize("status", [0, 1, 2])
def test_every_recorded_command_line_ends_as_in_vllm(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same values differ from the default, in value and type, or it ends with the same status."""
    monkeypatch.chdir(tmp_path)
    defaults = _as_recorded(parsed())
    recordings = [recording for recording in RECORDED["parses"] if recording["status"] == status]
    assert recordings
    differing = []
    for recording in recordings:
        Path("CONFIG.yaml").write_text(recording.get("config", ""), encoding="utf-8")
        ended = outcome(recording["argv"])
        values = _changed(ended.arguments, defaults) if ended.arguments else {}
        if (ended.status, _text(values)) != (status, _text(recording.get("values", {}))):
            differing.append((recording, ended.status, ended.text, values))
    assert not differing


def test_names_of_flags_are_those_of_vllm_and_our_own() -> None:
    """The hidden ones included, and each sets the same value."""
    flags = [flag for group in read_catalogue().groups for flag in group.flags]
    names = {name: flag.dest for flag in flags for name in (*flag.names, *flag.negative_names)}
    vllm = {name: dest for name, dest in OPTIONS.items() if dest != "help"}
    assert names == vllm | {name: dest for name, dest in names.items() if name in OWN_NAMES}


def test_our_own_flags_take_no_name_of_vllm() -> None:
    """Neither a flag's name nor a dest is used twice."""
    assert not OWN_NAMES & set(OPTIONS)
    assert not OWN_DESTS & set(OPTIONS.values())


@given(data=st.data())
def test_our_own_flags_make_no_abbreviation_ambiguous(data: st.DataObject) -> None:
    """Each beginning that is a single flag of vLLM is that flag here, unless it is the whole name of one of ours."""
    name = data.draw(st.sampled_from(LONG_OPTIONS))
    begun = name[: data.draw(st.integers(3, len(name)))]
    matching = [option for option in OPTIONS if option.startswith(begun)]
    text = outcome(["m", begun, "--no-such-flag"]).text
    if begun in OPTIONS or len(matching) == 1 or begun in OWN_NAMES:
        assert "ambiguous" not in text
    else:
        assert "ambiguous" in text
        assert not [own for own in OWN_NAMES if f" {own}," in text]


@settings(max_examples=40)
@given(name=st.sampled_from(LONG_OPTIONS), data=st.data())
def test_underscores_and_dashes_are_the_same_in_names(name: str, data: st.DataObject) -> None:
    """Whichever of the two stands in each place, the outcome is the same."""
    spelled = "--" + "".join(
        data.draw(st.sampled_from("-_")) if letter == "-" else letter for letter in name[2:]
    )
    for words in ([], ["1"]):
        assert outcome(["m", spelled, *words]) == outcome(["m", name, *words])
