"""Ties: the lower load, then each in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.routing.fleets import SizeOnlyFleet, fleet_with, fresh_memory

from understudy.routing.ties import least_loaded_of, next_in_turn

tied_sets = st.sets(st.integers(0, 7), min_size=1).map(sorted)


@given(tied=tied_sets, rounds=st.integers(1, 5), turn=st.integers(0, 8))
def test_workers_that_keep_tying_win_equally_often(tied: list[int], rounds: int, turn: int) -> None:
    """After any number of full rounds each tied worker has won that often, wherever the turn began."""
    memory = fresh_memory(turn=turn)
    wins = Counter(next_in_turn(tied, SizeOnlyFleet(8), memory) for _ in range(rounds * len(tied)))
    assert wins == dict.fromkeys(tied, rounds)


@given(tied=tied_sets, rounds=st.integers(1, 5))
def test_decisions_without_a_tie_take_no_turn(tied: list[int], rounds: int) -> None:
    """What is decided between ties does not make them unfair."""
    memory = fresh_memory()
    wins: Counter[int] = Counter()
    for _ in range(rounds * len(tied)):
        wins[next_in_turn(tied, SizeOnlyFleet(8), memory)] += 1
        assert next_in_turn([7], SizeOnlyFleet(8), memory) == 7
    assert wins == dict.fromkeys(tied, rounds)


@given(
    loads=st.lists(st.integers(0, 3), min_size=8, max_size=8), candidates=tied_sets, turn=st.integers(0, 8)
)
def test_the_lower_load_wins_first(loads: list[int], candidates: list[int], turn: int) -> None:
    """The winner is a candidate, none has a lower load, and of those with its load its turn came first."""
    winner = least_loaded_of(candidates, fleet_with(loads), fresh_memory(turn=turn))
    expected = min(candidates, key=lambda worker: (loads[worker], worker < turn, worker))
    assert expected == winner


def test_a_single_candidate_needs_no_look() -> None:
    """Where there is nothing to break, the workers' loads are not asked for."""
    assert least_loaded_of([3], SizeOnlyFleet(5), fresh_memory()) == 3
