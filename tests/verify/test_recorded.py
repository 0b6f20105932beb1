"""The trials that are shipped: of our vLLM, in agreement, small."""

import gzip
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from tests.verify.stand_in_judge import stand_in_python

from understudy import VLLM_VERSION
from understudy.errors import InputError
from understudy.verify import recorded
from understudy.verify.cases import random_case
from understudy.verify.recorded import Recording, record, recorded_trials, recordings

MAX_BYTES = 1_000_000


def test_recorded_trials_agree() -> None:
    """Not one comparison with what vLLM decided disagrees."""
    tallies = recorded_trials().by_key()
    assert {key: tally.examples for key, tally in tallies.items() if tally.disagreements} == {}
    assert sum(tally.comparisons for tally in tallies.values()) > 100_000


def test_they_are_of_our_version_and_small() -> None:
    """All name the vLLM that we stand in for; the package does not swell."""
    assert {recording.vllm for _, recording in recordings()} == {VLLM_VERSION}
    folder = files("understudy.verify") / "evidence" / "trials"
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) < MAX_BYTES


def test_recording_writes_what_is_read(tmp_path: Path) -> None:
    """A recording holds the case and what the judge made of it."""
    cases = {"one": random_case(1, num_requests=4), "two": random_case(2, num_requests=4)}
    record(cases, stand_in_python(tmp_path, "faithful"), tmp_path / "trials")
    for name, case in cases.items():
        data = gzip.decompress((tmp_path / "trials" / f"{name}.json.gz").read_bytes())
        recording = msgspec.json.decode(data, type=Recording)
        assert recording.vllm == VLLM_VERSION
        assert recording.case == case
        assert recording.trial.log


def test_another_vllm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old evidence is no evidence."""
    monkeypatch.setattr(recorded, "VLLM_VERSION", "99.0")
    with pytest.raises(InputError, match="`make record-trials`"):
        recorded_trials()
