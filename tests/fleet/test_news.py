"""How late and how often a router hears of its workers: what can be, and how little it costs who never listens."""

import pytest
from tests.fleet.scenes import fleet, simulate, turn

from understudy.errors import UsageError
from understudy.fleet import NewsTiming
from understudy.fleet.news import News
from understudy.routing import Knowledge


def test_times_that_cannot_be_are_refused() -> None:
    """One line says which, and what is accepted."""
    with pytest.raises(UsageError, match=r"the delay must be at least 0$"):
        NewsTiming(delay_ns=-1)
    for heartbeat_ns, synchronisation_ns in ((0, 5), (-1, 5), (5, 0), (5, -5)):
        with pytest.raises(UsageError, match=r"must be greater than 0$"):
            NewsTiming(heartbeat_ns=heartbeat_ns, synchronisation_ns=synchronisation_ns)
    with pytest.raises(UsageError, match=r"^synchronisation_seconds \(5\) must be a multiple of .* \(2\)"):
        NewsTiming(heartbeat_ns=2 * 10**9, synchronisation_ns=5 * 10**9)
    timing = NewsTiming(delay_ns=0, heartbeat_ns=5, synchronisation_ns=5)
    assert (timing.delay_ns, timing.heartbeat_ns, timing.synchronisation_ns) == (0, 5, 5)


@pytest.mark.parametrize("knowledge", [Knowledge.EVENTS, Knowledge.HEARTBEAT])
def test_news_that_nobody_asks_for_does_not_pile_up(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a policy that never looks, no more is on its way than happens within the delay and a heartbeat."""
    timing = NewsTiming(delay_ns=500_000, heartbeat_ns=100_000, synchronisation_ns=100_000)
    on_the_way: list[int] = []
    heartbeat = News.heartbeat

    def counted(news: News) -> None:
        heartbeat(news)
        on_the_way.append(len(news._on_the_way))

    monkeypatch.setattr(News, "heartbeat", counted)
    workload = [turn(i, 10**6 * i, i % 3, 20, 1) for i in range(200)]
    simulate(fleet(knowledge=knowledge, news=timing), workload)
    events_of_one_request = 10
    assert len(on_the_way) > 1_000
    assert max(on_the_way) <= 2 * (1 + timing.delay_ns // timing.heartbeat_ns) + events_of_one_request


@pytest.mark.parametrize("knowledge", [Knowledge.EVENTS, Knowledge.HEARTBEAT])
def test_a_night_without_requests_costs_a_few_heartbeats(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker does not repeat itself, and what the router knows in the morning is the same."""
    heartbeats: list[News] = []
    heartbeat = News.heartbeat

    def counted(news: News) -> None:
        heartbeats.append(news)
        heartbeat(news)

    monkeypatch.setattr(News, "heartbeat", counted)
    timing = NewsTiming(delay_ns=30_000, heartbeat_ns=100_000, synchronisation_ns=500_000)
    night_ns = 10**15
    config = fleet(policy="prefix", knowledge=knowledge, news=timing)
    simulation = simulate(config, [turn(0, 0, 0, 40, 5), turn(1, night_ns, 0, 40, 5)])
    assert len(heartbeats) < 1_000
    assert simulation.records[1].worker == simulation.records[0].worker
    assert simulation.records[1].believed_cached_tokens == simulation.records[1].cached_tokens == 36
