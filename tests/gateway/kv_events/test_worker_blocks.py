"""Laws of what events mean: which of them count, and that ranks do not mix."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import BlockHasher, event_hash
from understudy.gateway.kv_events.hash_check import HashCheck
from understudy.gateway.kv_events.worker_blocks import WorkerBlocks
from understudy.routing import Knowledge, RouterState
from understudy.routing.prefix_index import PrefixIndex
from understudy.wire.kv_event_reader import Cleared, Event, Removed, Stored

BLOCKS = st.lists(st.integers(0, 6), max_size=4)


def stored(
    hashes: Sequence[int],
    *,
    medium: str | None = "GPU",
    group: int | None = 0,
    kind: str | None = "full_attention",
) -> Stored:
    """Return an event that tells nothing of how hashes are made."""
    return Stored(hashes, 1, 16, medium, group, kind, None, (), (), has_lookahead=False)


def removed(hashes: Sequence[int], *, medium: str | None = "GPU", group: int | None = 0) -> Removed:
    """Return an event."""
    return Removed(hashes, medium, group)


class Copies:
    """A sink that counts copies, of one slot."""

    def __init__(self) -> None:
        self.held: Counter[int] = Counter()

    def stored(self, worker: int, hashes: Sequence[int]) -> None:
        """Add."""
        assert worker == 3
        self.held.update(hashes)

    def removed(self, worker: int, hashes: Sequence[int]) -> None:
        """Take away."""
        assert worker == 3
        self.held -= Counter(hashes)

    def cleared(self, worker: int) -> None:
        """Forget."""
        self.synchronised(worker, ())

    def synchronised(self, worker: int, hashes: Sequence[int]) -> None:
        """Replace."""
        assert worker == 3
        self.held = Counter(hashes)


def blocks_of(
    sink: Copies, ranks: Sequence[int] = (0,), check: HashCheck | None = None, max_blocks: int = 1000
) -> WorkerBlocks:
    """Return what keeps the blocks of slot 3."""
    check = check or HashCheck("sha256", 16, None)
    return WorkerBlocks(3, sink, ranks, check, lambda: None, max_blocks=max_blocks)


def test_the_router_s_state_is_a_sink() -> None:
    """What is told arrives in its index."""
    state = RouterState(1, Knowledge.EVENTS)
    blocks = WorkerBlocks(0, state, [0], HashCheck("sha256", 16, None), lambda: None, max_blocks=9)
    blocks.apply(0, [stored([1, 2, 3]), removed([2])])
    assert state.index.longest_prefixes([1, 3, 2]) == [2]
    blocks.synchronise(0, [7])
    assert state.index.longest_prefixes([7]) == [1]
    blocks.forget(0, started_over=True)
    assert state.index.blocks_held(0) == 0


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["stored", "removed", "cleared", "listed", "forgotten"]),
            BLOCKS,
        )
    )
)
def test_a_worker_holds_what_its_ranks_hold(steps: list[tuple[int, str, list[int]]]) -> None:
    """Each copy belongs to one rank: what another rank drops, clears or loses does not touch it."""
    sink = Copies()
    blocks = blocks_of(sink, ranks=range(3))
    held: list[Counter[int]] = [Counter() for _ in range(3)]
    for rank, what, hashes in steps:
        match what:
            case "stored":
                held[rank].update(hashes)
                blocks.apply(rank, [stored(hashes)])
            case "removed":
                held[rank] -= Counter(hashes)
                blocks.apply(rank, [removed(hashes)])
            case "cleared":
                held[rank].clear()
                blocks.apply(rank, [Cleared()])
            case "listed":
                held[rank] = Counter(hashes)
                blocks.synchronise(rank, hashes)
            case _:
                held[rank].clear()
                blocks.forget(rank, started_over=False)
        assert sink.held == sum(held, Counter())


@given(
    events=st.lists(
        st.tuples(st.booleans(), BLOCKS, st.sampled_from(["GPU", "CPU", "STORAGE", "disk", None]))
    ),
    num_ranks=st.sampled_from([1, 2]),
)
def test_only_the_gpu_s_blocks_count(
    events: list[tuple[bool, list[int], str | None]], num_ranks: int
) -> None:
    """Events of other media change nothing, in one batch or in many."""
    all_events: list[Event] = [
        stored(hashes, medium=medium) if is_stored else removed(hashes, medium=medium)
        for is_stored, hashes, medium in events
    ]
    of_gpu = [
        event for event in all_events if not isinstance(event, Cleared) and event.medium in {"GPU", None}
    ]
    at_once, one_by_one, alone = Copies(), Copies(), Copies()
    blocks_of(at_once, range(num_ranks)).apply(0, all_events)
    several = blocks_of(one_by_one, range(num_ranks))
    for event in all_events:
        several.apply(0, [event])
    blocks_of(alone, range(num_ranks)).apply(0, of_gpu)
    assert at_once.held == one_by_one.held == alone.held


@pytest.mark.parametrize(
    ("kinds", "followed"),
    [
        (["full_attention"], 0),
        ([None], 0),
        (["full_attention", "sliding_window"], 0),
        (["sliding_window", "full_attention"], 1),
        (["mamba", "mla_attention", "full_attention"], 1),
        (["sliding_window", "mamba"], 0),
        (["sliding_window"], 0),
    ],
)
def test_one_group_is_followed(kinds: list[str | None], followed: int) -> None:
    """The first with full attention, else the first of all; what was taken of another before is forgotten."""
    sink = Copies()
    blocks = blocks_of(sink)
    groups = [stored([10 + group, 1], group=group, kind=kind) for group, kind in enumerate(kinds)]
    blocks.apply(0, groups)
    assert sink.held == Counter([10 + followed, 1])
    blocks.apply(0, [removed([1], group=group) for group in range(len(kinds)) if group != followed])
    assert sink.held == Counter([10 + followed, 1])
    blocks.apply(0, [removed([1], group=followed)])
    assert sink.held == Counter([10 + followed])


def test_before_groups_are_known_the_first_counts() -> None:
    """A list of blocks comes without groups, and what it names may be removed next."""
    sink = Copies()
    blocks = blocks_of(sink)
    blocks.synchronise(0, [1, 2, 2])
    blocks.apply(0, [removed([2], group=None), removed([1], group=0)])
    assert sink.held == Counter([2])


def test_no_rank_of_several_takes_all_memory() -> None:
    """More blocks than may be kept are left out."""
    sink = Copies()
    blocks = blocks_of(sink, ranks=[0, 1], max_blocks=5)
    for start in range(0, 100, 10):
        blocks.apply(0, [stored(range(start, start + 10))])
    assert sink.held.total() == 5
    blocks.synchronise(0, list(range(100)))
    assert sink.held.total() == 5


def test_nothing_is_told_while_hashes_differ() -> None:
    """All is cleared first; telling begins again once the worker has started over and agrees."""
    told: list[str] = []
    sink = Copies()
    check = HashCheck("sha256", 2, None)
    blocks = WorkerBlocks(3, sink, [0], check, lambda: told.append(str(dict(sink.held))), max_blocks=9)
    true_hash = event_hash(BlockHasher("sha256", 2).hash_block(None, (5, 6), None))
    root = Stored([true_hash], None, 2, "GPU", 0, "full_attention", None, (5, 6), (), has_lookahead=False)
    false_root = root._replace(hashes=[99])
    assert blocks.wants_tokens
    blocks.apply(0, [stored([1])])
    assert sink.held == Counter([1])
    blocks.apply(0, [false_root, stored([2]), Cleared()])
    blocks.synchronise(0, [4])
    assert told == ["{}"]
    assert not blocks.wants_tokens
    blocks.forget(0, started_over=True)
    assert blocks.wants_tokens
    blocks.apply(0, [stored([3])])
    assert not sink.held
    blocks.apply(0, [root, stored([4])])
    assert told == ["{}", "{}"]
    assert sink.held == Counter([true_hash, 4])


def test_the_index_itself_agrees_with_a_count_of_copies() -> None:
    """What the sink of these tests does is what the router's index does."""
    index, copies = PrefixIndex(4), Copies()
    for sink in (index, copies):
        blocks_of(sink).apply(0, [stored([1, 1, 2]), removed([1, 2])])  # type: ignore[arg-type]  # both are sinks
    assert index.blocks_held(3) == len(copies.held) == 1
