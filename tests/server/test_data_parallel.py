"""The choice of a rank, by vLLM's rule."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import Gauges
from understudy.server.data_parallel import SNAPSHOT_SECONDS, RankChooser


class _Engines:
    def __init__(self, *gauges: Gauges) -> None:
        self.gauges = list(gauges)
        self.now_seconds = 0.0
        self.looks = 0

    def look(self) -> list[Gauges]:
        self.looks += 1
        return self.gauges

    def chooser(self) -> RankChooser:
        return RankChooser(len(self.gauges), self.look, lambda: self.now_seconds)


def test_idle_ranks_take_turns() -> None:
    """The start moves on by one each time, so that equals are served alike."""
    chooser = _Engines(*[Gauges(0, 0, 0.0)] * 3).chooser()
    ranks = []
    for _ in range(9):
        rank = chooser.choose()
        chooser.in_flight[rank] += 1
        ranks.append(rank)
    assert sorted(ranks) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert ranks[:3] == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8))
def test_the_least_loaded_is_chosen(loads: list[tuple[int, int]]) -> None:
    """With half-empty caches the load is what runs and waits."""
    engines = _Engines(*(Gauges(running, waiting, 0.5) for running, waiting in loads))
    rank = engines.chooser().choose()
    assert sum(loads[rank]) == min(map(sum, loads))


def test_a_full_cache_counts_where_requests_wait() -> None:
    """Five that wait before a full cache weigh as much as twenty."""
    waiting = Gauges(0, 5, 1.0)
    assert _Engines(waiting, Gauges(19, 0, 1.0)).chooser().choose() == 1
    assert _Engines(waiting, Gauges(21, 0, 1.0)).chooser().choose() == 0


def test_the_snapshot_ages() -> None:
    """Engines are looked at every so often, not at each choice."""
    engines = _Engines(Gauges(0, 0, 0.0), Gauges(0, 0, 0.0))
    chooser = engines.chooser()
    for _ in range(5):
        chooser.choose()
    assert engines.looks == 1
    engines.now_seconds = SNAPSHOT_SECONDS
    chooser.choose()
    assert engines.looks == 2


def test_one_rank_needs_no_choice() -> None:
    """It is 0, and nobody is looked at."""
    engines = _Engines(Gauges(9, 9, 1.0))
    assert engines.chooser().choose() == 0
    assert engines.looks == 0
