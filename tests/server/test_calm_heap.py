"""The garbage collector of a process that serves."""

import gc

import pytest

from understudy.server.calm_heap import calm_heap


def _serve_and_fail(before: tuple[int, int, int]) -> None:
    with calm_heap():
        assert gc.get_threshold() != before
        assert gc.get_freeze_count() > 0
        raise RuntimeError


def test_it_is_as_before_when_the_server_has_ended() -> None:
    """Thresholds come back, and what was set aside is looked at again, whatever ended it."""
    before = gc.get_threshold()
    assert gc.get_freeze_count() == 0
    with pytest.raises(RuntimeError):
        _serve_and_fail(before)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
