"""The file of unequal workers."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import InputError
from understudy.server.arguments import parse_serve_arguments
from understudy.server.faults import FaultPlan
from understudy.up.profile import Group, flag_words, load_profile

YAML = """
- name: chat
  count: 2
  model: llama-3.1-8b
  served_model_name: [chat, small]
  flags: {max-num-seqs: 64, enable-lora: true, enable-prefix-caching: false}
  faults: {seed: 3, faults: [{kind: slow, factor: 2}]}
- name: big
  gpu: b200
  time_scale: 0.5
  startup: 2s
  faults: plans/faults.yaml
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_are_read(tmp_path: Path) -> None:
    """Every key has its place, and what is not said is None; a path of faults is seen from the file's folder."""
    chat, big = load_profile(_written(tmp_path, YAML))
    assert (chat.name, chat.count, chat.model, chat.served_model_name) == (
        "chat",
        2,
        "llama-3.1-8b",
        ["chat", "small"],
    )
    assert isinstance(chat.faults, FaultPlan)
    assert chat.faults.seed == 3
    assert big == Group(
        name="big", gpu="b200", time_scale=0.5, startup="2s", faults=str(tmp_path / "plans" / "faults.yaml")
    )


def test_json_says_the_same(tmp_path: Path) -> None:
    """A profile may be JSON."""
    groups = [{"name": "a", "count": 3, "flags": {"seed": 1}}, {"name": "b", "faults": {"seed": 4}}]
    from_yaml = load_profile(
        _written(tmp_path, "[{name: a, count: 3, flags: {seed: 1}}, {name: b, faults: {seed: 4}}]")
    )
    assert load_profile(_written(tmp_path, json.dumps(groups))) == from_yaml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{name: a, modell: x}]", "unknown field `modell`"),
        ("[{name: a, count: 0}]", "`int` >= 1 - at `$[0].count`"),
        ("[{name: a, count: many}]", "at `$[0].count`"),
        ("[{name: 'a b'}]", "at `$[0].name`"),
        ("[{faults: {fault: []}}]", "unknown field `fault`"),
        ("[{faults: {faults: [{kind: nonsense}]}}]", "nonsense"),
        ("{name: a}", "Expected `array`"),
        ("[{name: a", "accepted is a list"),
        ("", "Expected `array`"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    """In one sentence, with the file and all that is accepted."""
    path = _written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message
    assert all(key in message for key in Group.__struct_fields__)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[]", "has no group"), ("[{name: a}, {name: b}, {name: a}]", "two groups are called 'a'")],
)
def test_groups_must_be_there_and_apart(tmp_path: Path, text: str, words: str) -> None:
    """Names of workers come from them."""
    with pytest.raises(InputError, match=words):
        load_profile(_written(tmp_path, text))


def test_a_file_must_be_one(tmp_path: Path) -> None:
    """A folder, and a file that is not there, are refused."""
    for path in (tmp_path, tmp_path / "nowhere.yaml"):
        with pytest.raises(InputError, match=str(path)):
            load_profile(path)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max-num-seqs": st.integers(1, 10_000),
            "max_model_len": st.integers(1, 10_000),
            "enable-prefix-caching": st.booleans(),
            "gpu-memory-utilization": st.floats(0.1, 0.9),
            "served-model-name": st.lists(st.from_regex(r"[a-z]+", fullmatch=True), min_size=1, max_size=3),
            "override-generation-config": st.dictionaries(
                st.sampled_from(["temperature", "top_p"]), st.floats(0, 1), min_size=1
            ),
        },
    )
)
def test_flags_mean_what_they_say(flags: dict[str, object]) -> None:
    """The parser of `understudy serve` reads the very values of a profile, False as a switch that is off."""
    values = parse_serve_arguments(["llama-3.1-8b", *flag_words(flags)], {}).values  # type: ignore[arg-type]  # values of one kind each
    assert {name: values[name.replace("-", "_")] for name in flags} == flags
