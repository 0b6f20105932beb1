"""Laws of following one rank's batches, whatever becomes of them on their way; the worker is a model of vLLM's publisher."""

from collections import Counter, deque
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.gateway.kv_events.follower import MAX_HELD_BYTES, Follower

UNREADABLE = b"\xc1"
TURNS = 50
"""Far more questions than it takes to catch up."""


class Publisher:
    """A rank with its numbered batches; the last `num_kept` can be replayed."""

    def __init__(self, num_kept: int) -> None:
        self.held: Counter[int] = Counter()
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=num_kept)
        self._lives = count(1)
        self._times = count()
        self.life = 0
        self.next_number = 0

    def publish(
        self, stored: list[int], num_removed: int, *, cleared: bool, readable: bool
    ) -> tuple[int, bytes]:
        """Let something happen, and return the batch that tells of it."""
        if cleared:
            self.held.clear()
        self.held.update(stored)
        removed = list(self.held.elements())[:num_removed]
        self.held -= Counter(removed)
        payload = msgspec.msgpack.encode([next(self._times), self.life, cleared, stored, removed])
        batch = self.next_number, payload if readable else UNREADABLE + payload
        self._kept.append(batch)
        self.next_number += 1
        return batch

    def start_over(self) -> None:
        """Lose everything, and count from 0."""
        self.held.clear()
        self._kept.clear()
        self.life = next(self._lives)
        self.next_number = 0

    def kept_from(self, first: int) -> list[tuple[int, bytes]]:
        """Return what a replay gives."""
        return [batch for batch in self._kept if batch[0] >= first]


class Known:
    """What a router knows of the rank, and what its follower asks for."""

    def __init__(self) -> None:
        self.held: Counter[int] = Counter()
        self.wants_replay_from: int | None = None
        self.wants_list = False
        self.life: int | None = None
        self.num_mixtures = 0
        """How often a batch was applied to what another life had left."""
        self.is_mixed = False
        """Whether what is known is such a mixture."""

    def apply(self, payload: bytes) -> bool:
        """Take a batch."""
        if payload.startswith(UNREADABLE):
            return False
        _, life, cleared, stored, removed = msgspec.msgpack.decode(payload)
        if self.life not in {None, life}:
            self.num_mixtures += 1
            self.is_mixed = True
        self.life = life
        if cleared:
            self.held.clear()
        self.held.update(stored)
        self.held -= Counter(removed)
        return True

    def forget(self, *, started_over: bool) -> None:  # noqa: ARG002 - the same for both
        """Forget all."""
        self.held.clear()
        self.life = None
        self.is_mixed = False

    def replay(self, first: int) -> None:
        """Ask for a replay."""
        self.wants_replay_from = first

    def list_blocks(self) -> None:
        """Ask for a list."""
        assert not self.wants_list, "one list at a time"
        self.wants_list = True


class Following(RuleBasedStateMachine):
    """A worker publishes; batches are lost, late, doubled and out of order; connections break, the worker starts over."""

    can_replay = True
    can_list = False
    num_kept = 1000

    def __init__(self) -> None:
        super().__init__()
        self.publisher = Publisher(self.num_kept)
        self.under_way: list[tuple[int, bytes]] = []
        self.known = Known()
        self.follower = Follower(self.known, can_replay=self.can_replay, can_list=self.can_list)
        self.takes_word_of_list = False
        self.num_allowed_mixtures = 0
        self.may_mix = False
        """Whether the worker has started over without a sign; then the number that is due may be one of the new life."""

    @initialize(batches_before=st.integers(0, 5))
    def joins(self, batches_before: int) -> None:
        """Let the router come while the worker is at work."""
        for block in range(batches_before):
            self.publisher.publish([block], 0, cleared=False, readable=True)
        self.follower.start()

    @rule(
        stored=st.lists(st.integers(0, 5), max_size=4),
        num_removed=st.integers(0, 3),
        cleared=st.booleans(),
        readable=st.sampled_from([True] * 9 + [False]),
    )
    def publishes(self, stored: list[int], num_removed: int, *, cleared: bool, readable: bool) -> None:
        """Let something happen."""
        self.under_way.append(self.publisher.publish(stored, num_removed, cleared=cleared, readable=readable))

    @rule(stored=st.lists(st.integers(0, 5), min_size=1, max_size=4), num_removed=st.integers(0, 3))
    def all_goes_well(self, stored: list[int], num_removed: int) -> None:
        """Answer all that was asked, and let a batch come at once."""
        self._answer_list(answers=True)
        self._answer_replay(answers=True)
        self.follower.live(*self.publisher.publish(stored, num_removed, cleared=False, readable=True))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), twice=st.booleans())
    def arrives(self, data: st.DataObject, *, twice: bool) -> None:
        """Bring any batch; it may come once more."""
        place = data.draw(st.integers(0, min(3, len(self.under_way) - 1)))
        self.follower.live(*self.under_way[place])
        if not twice:
            del self.under_way[place]

    @precondition(lambda self: self.under_way)
    @rule()
    def is_lost(self) -> None:
        """Lose a batch."""
        self.under_way.pop(0)

    @rule()
    def is_quiet(self) -> None:
        """Let nothing come for a while."""
        self.follower.quiet()

    @precondition(lambda self: self.known.wants_replay_from is not None)
    @rule(answers=st.booleans())
    def replay_comes(self, *, answers: bool) -> None:
        """Answer a request for a replay, or do not."""
        self._answer_replay(answers=answers)

    @precondition(lambda self: self.known.wants_list)
    @rule(answers=st.booleans())
    def list_comes(self, *, answers: bool) -> None:
        """Answer a request for a list, or do not."""
        self._answer_list(answers=answers)

    @precondition(lambda self: not self.takes_word_of_list)
    @rule(breaks=st.booleans(), num_unheard=st.integers(0, 4))
    def starts_over(self, *, breaks: bool, num_unheard: int) -> None:
        """Let the worker lose everything, and publish what does not come; sockets may survive that, as in one process."""
        self.publisher.start_over()
        for block in range(num_unheard):
            self.publisher.publish([block], 0, cleared=False, readable=True)
        self.may_mix = True
        if breaks:
            self.breaks()

    @rule()
    def breaks(self) -> None:
        """Break the connection: what was under way is lost."""
        self.under_way.clear()
        self.may_mix = False
        self.follower.unsure()

    def teardown(self) -> None:
        """Let faults be over and all be quiet: what is known is so."""
        for batch in self.under_way:
            self.follower.live(*batch)
        for _ in range(TURNS):
            self._answer_list(answers=True)
            self._answer_replay(answers=True)
            self.follower.quiet()
        self._answer_list(answers=True)
        self._answer_replay(answers=True)
        assert not self.follower.is_waiting
        if self.known.is_mixed:
            return
        assert self.known.held <= self.publisher.held
        if self.follower.is_complete:
            assert self.known.held == self.publisher.held
        if self.can_list or (self.publisher.kept_from(0) and self.publisher.kept_from(0)[0][0] == 0):
            self.check_complete()

    def check_complete(self) -> None:
        """Assert that all is known where all that happened could be had and read."""
        readable = all(not payload.startswith(UNREADABLE) for _, payload in self.publisher.kept_from(0))
        assert self.follower.is_complete or not (
            self.can_list or (readable and self.follower.num_losses == 0)
        )

    @invariant()
    def waits_for_what_was_asked(self) -> None:
        """Assert that whoever waits has asked."""
        asked = self.known.wants_list or self.known.wants_replay_from is not None
        assert asked or not self.follower.is_waiting

    @invariant()
    def lives_do_not_mix(self) -> None:
        """Assert that nothing is applied to what another life has left, but where nobody could know."""
        if self.may_mix:
            self.num_allowed_mixtures = self.known.num_mixtures
        assert self.known.num_mixtures == self.num_allowed_mixtures

    def _answer_replay(self, *, answers: bool) -> None:
        first, self.known.wants_replay_from = self.known.wants_replay_from, None
        if first is None:
            return
        self.takes_word_of_list = False
        if not answers:
            self.follower.replay_failed()
            return
        num_mixtures = self.known.num_mixtures
        for batch in self.publisher.kept_from(first):
            self.follower.replayed(*batch)
        assert self.known.num_mixtures == num_mixtures, "a replay tells which life it is of"
        self.follower.replay_ended()

    def _answer_list(self, *, answers: bool) -> None:
        if not self.known.wants_list:
            return
        self.known.wants_list = False
        if not answers:
            self.follower.list_failed()
            return
        self.known.held = Counter(self.publisher.held)
        self.known.life = self.publisher.life if self.publisher.next_number else None
        self.known.is_mixed = False
        self.takes_word_of_list = self.can_replay
        self.follower.listed(self.publisher.next_number)


class FollowingWithFewKept(Following):
    """The worker can replay only its last batches."""

    num_kept = 2


class FollowingWithLists(Following):
    """The worker offers both."""

    can_list = True
    num_kept = 3


class FollowingByListsAlone(Following):
    """The worker offers lists, and no replay."""

    can_replay = False
    can_list = True


def following(known: Known) -> Follower:
    """Return a follower that has applied batches 0 to 2 of a worker that can replay."""
    follower = Follower(known, can_replay=True, can_list=False)
    follower.start()
    known.wants_replay_from = None
    follower.replay_ended()
    for number in range(3):
        follower.live(number, payload(number))
    return follower


def payload(number: int, life: int = 0) -> bytes:
    """Return a batch that stores one block."""
    return msgspec.msgpack.encode([100 * life + number, life, False, [number], []])


def test_a_batch_in_its_turn_costs_no_question() -> None:
    """Nor does one that comes twice or late."""
    known = Known()
    follower = following(known)
    for number in (1, 3, 2, 3):
        follower.live(number, payload(number))
    assert known.wants_replay_from is None
    assert known.held == Counter(range(4))
    assert (follower.num_repeated, follower.num_gaps, follower.is_complete) == (3, 0, True)


def test_another_batch_of_a_known_number_is_a_new_life_at_once() -> None:
    """What was known is forgotten, and the new life is replayed from its beginning."""
    known = Known()
    follower = following(known)
    follower.live(0, payload(0, life=1))
    assert not known.held
    assert known.wants_replay_from == 0
    assert follower.num_restarts == 1


def test_a_gap_is_replayed_from_the_batch_before() -> None:
    """By which the worker is known again; what came meanwhile is applied in its turn, once."""
    known = Known()
    follower = following(known)
    follower.live(5, payload(5))
    assert known.wants_replay_from == 2
    follower.live(6, payload(6))
    for number in range(2, 6):
        follower.replayed(number, payload(number))
    assert known.held == Counter(range(6))
    follower.replay_ended()
    assert known.held == Counter(range(7))
    assert (follower.num_gaps, follower.num_losses) == (1, 0)


def test_what_waits_takes_a_bounded_memory() -> None:
    """A worker that never replays cannot fill the router's."""
    known = Known()
    follower = following(known)
    for number in range(5, 50):
        follower.live(number, bytes(1024 * 1024))
    assert follower._held_bytes <= MAX_HELD_BYTES
    assert len(follower._held) == MAX_HELD_BYTES // 1024**2 - 1


@pytest.mark.parametrize(
    "machine", [Following, FollowingWithFewKept, FollowingWithLists, FollowingByListsAlone]
)
def test_after_quiet_what_is_known_is_so(machine: type[Following]) -> None:
    """Whatever happens to batches and connections: known is what the worker holds, or a part of it that says so."""
    case: Any = machine.TestCase
    case.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
    case("runTest").runTest()
