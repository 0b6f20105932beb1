"""Puts the numbered batches of one rank into order, each once, and finds out when some are missing or the numbers start over.

It knows neither sockets nor time: whoever drives it brings what came, and does what it asks for.

Batches of one life of a worker are numbered from 0 without a gap, and the last ones are kept there for replay. So a replay
is asked for from the batch that was applied last: if the worker does not have that very batch any more, its numbers have
started over, whatever they have come to meanwhile. A batch is known again by the hash of its bytes, which hold the time.

One thing cannot be seen: that a worker has started over on a connection that holds, where just as many batches of its new
life were lost as had come of the old one. A process that is started again breaks its connections.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

REMEMBERED_BATCHES = 1024
"""Of so many batches applied last it is known what they were, to tell late ones from those of another life."""

MAX_HELD_BYTES = 16 * 1024 * 1024
"""Batches that wait for others before them may take so much; more are dropped, and asked for again."""

_ENTRY_BYTES = 200
"""What holding a batch takes beside its bytes."""


class Steps(Protocol):
    """What a follower asks for. None of it may be answered from within the call."""

    def apply(self, payload: bytes) -> bool:
        """Take the next batch; False if it cannot be read, so that nobody knows what happened in it."""

    def forget(self, *, started_over: bool) -> None:
        """Forget all that is known of the rank; `started_over`: because another life of it has begun."""

    def replay(self, first: int) -> None:
        """Ask for all batches from a number on: `replayed` for each, then `replay_ended`; or `replay_failed`.

        Of a replay asked for before, nothing is wanted any more.
        """

    def list_blocks(self) -> None:
        """Ask for a list of all blocks: `listed` when it has been taken, or `list_failed`."""


@dataclass(slots=True)
class _Replay:
    """A replay under way. `may_fail`: nothing but its answer would tell that anything is wrong."""

    may_fail: bool
    is_same_life: bool
    verdict: Literal["good", "started over", "lost"] = "good"


class Follower:
    """Follows one rank; call `start`, and bring all that comes.

    `can_replay` and `can_list` say what the worker offers. `is_complete`: what was applied since the last `forget`, or the
    last list, accounts for all that the rank holds; else only for a part of it.
    """

    def __init__(self, steps: Steps, *, can_replay: bool, can_list: bool) -> None:
        self.can_list = can_list
        self.is_complete = False
        self.num_gaps = 0
        self.num_losses = 0
        """How often what the rank holds became unknown, and was forgotten."""
        self.num_restarts = 0
        self.num_repeated = 0
        self._steps = steps
        self._can_replay = can_replay
        self._next: int | None = 0
        """Number of the batch to apply next, None if any will do."""
        self._recent: dict[int, int] = {}
        self._held: dict[int, bytes] = {}
        self._held_bytes = 0
        self._held_before: frozenset[int] = frozenset()
        self._replay: _Replay | None = None
        self._is_listing = False
        self._list_may_fail = False
        self._is_unsure = False

    @property
    def is_waiting(self) -> bool:
        """Whether a replay or a list is under way; live batches are held until it has come."""
        return self._replay is not None or self._is_listing

    @property
    def is_behind(self) -> bool:
        """Whether it is known that something is missing, and it is being asked for."""
        replay = self._replay
        return (
            bool(self._held)
            or self._is_unsure
            or (replay is not None and not replay.may_fail)
            or (self._is_listing and not self._list_may_fail)
        )

    # -- what happens --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Catch up with all that has happened so far."""
        self._catch_up()
        self._go_on()

    def unsure(self) -> None:
        """Note that the connection was lost: the worker may have been started again, and another replay is needed."""
        self._replay = None
        self._is_unsure = True
        self._held.clear()
        self._held_bytes = 0
        self._go_on()

    def quiet(self) -> None:
        """Note that nothing has come for a while: the last batch may have been lost, or the worker started again."""
        if self.is_waiting:
            return
        if self.can_list and not (self._can_replay and self.is_complete):
            self._ask_list(may_fail=True)
        elif self._can_replay:
            self._ask_replay(may_fail=True)

    def live(self, number: int, payload: bytes) -> None:
        """Take a batch as it was published."""
        if number == self._next and not (self._held or self._is_unsure or self.is_waiting):
            self._apply(number, payload)
        else:
            self._hold(number, payload)
            self._go_on()

    def replayed(self, number: int, payload: bytes) -> None:
        """Take a batch of the replay that was asked for."""
        replay, expected = self._replay, self._next
        if replay is None or replay.verdict != "good":
            return
        if expected is None or (replay.is_same_life and number == expected):
            self._apply(number, payload)
        elif not replay.is_same_life and number == expected - 1:
            # Where a list stood in the place of that batch, its word is taken.
            replay.is_same_life = self._recent.setdefault(number, hash(payload)) == hash(payload)
            replay.verdict = "good" if replay.is_same_life else "started over"
        elif number >= expected:
            # What came between is gone; or the batch applied last is, and with it the way to know this life again.
            self._lose_in_replay(replay, number)
            if replay.verdict == "good":
                self._apply(number, payload)

    def replay_ended(self) -> None:
        """Note that the worker has nothing more to replay."""
        replay, self._replay = self._replay, None
        if replay is None:
            return
        if replay.verdict == "lost":
            self._ask_list()
        elif replay.verdict == "started over" or not (replay.is_same_life or self._next is None):
            self._start_over()
        else:
            self.is_complete |= self._next == 0
            self._release_what_was_asked_for()
            self._go_on()

    def replay_failed(self) -> None:
        """Note that the worker does not answer."""
        replay, self._replay = self._replay, None
        if replay is None:
            return
        if not replay.may_fail:
            self._lose_track()
        self._go_on()

    def listed(self, next_number: int) -> None:
        """Note that all blocks have been listed, as of the time before the batch of this number."""
        if not self._is_listing:
            return
        self._is_listing = False
        self._next = next_number
        self._recent.clear()
        self.is_complete = True
        self._release_what_was_asked_for()
        for number in [number for number in self._held if number < next_number]:
            self._release(number)
        if self._can_replay:
            # So that the batch before is known again from now on, and all after it are had.
            self._ask_replay()
        self._go_on()

    def list_failed(self) -> None:
        """Note that no list could be had."""
        if not self._is_listing:
            return
        self._is_listing = False
        if not self._list_may_fail:
            self._forget_all(None)
        self._go_on()

    # -- what follows --------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Apply what is held, as far as it goes, and ask for what is missing."""
        while not self.is_waiting:
            if self._is_unsure:
                self._catch_up()
            elif not self._held:
                return
            else:
                self._take_earliest(min(self._held))

    def _take_earliest(self, number: int) -> None:
        if self._next is None or number == self._next:
            self._apply(number, self._release(number))
        elif number > self._next:
            self.num_gaps += 1
            self._catch_up()
        elif self._recent.get(number) == hash(self._held[number]):
            self._release(number)
            self.num_repeated += 1
        elif number not in self._recent:
            # Too old to be known again; whether the batch applied last is still the worker's tells as much.
            self._catch_up()
        else:
            self._start_over()

    def _catch_up(self) -> None:
        if self._can_replay:
            self._ask_replay()
        else:
            self._lose_track()

    def _lose_track(self) -> None:
        if self.can_list:
            self._ask_list()
        else:
            self._forget_all(None)
            self._is_unsure = False

    def _start_over(self) -> None:
        """Begin anew with a worker whose numbers have started over."""
        self.num_restarts += 1
        self._forget(0, started_over=True)
        self._catch_up()

    def _ask_replay(self, *, may_fail: bool = False) -> None:
        self._is_unsure = False
        self._held_before = frozenset(self._held)
        self._replay = _Replay(may_fail, is_same_life=self._next == 0)
        self._steps.replay(max(0, (self._next or 0) - 1))

    def _ask_list(self, *, may_fail: bool = False) -> None:
        self._is_unsure = False
        self._held_before = frozenset(self._held)
        self._is_listing = True
        self._list_may_fail = may_fail
        self._steps.list_blocks()

    def _lose_in_replay(self, replay: _Replay, number: int) -> None:
        if self.can_list:
            replay.verdict = "lost"
        else:
            self._forget_all(number)
            replay.is_same_life = True

    def _apply(self, number: int, payload: bytes) -> None:
        self._next = number + 1
        self._recent[number] = hash(payload)
        self._recent.pop(number - REMEMBERED_BATCHES, None)
        if self._replay is not None:
            self._replay.is_same_life = True
        if self._steps.apply(payload):
            self.is_complete |= number == 0
        elif self._replay is not None:
            self._lose_in_replay(self._replay, number + 1)
        elif self.can_list:
            self._ask_list()
        else:
            self._forget_all(number + 1)

    def _forget_all(self, number: int | None) -> None:
        """Forget what is not certain any more, and go on with the batch of this number, or with any."""
        self.num_losses += 1
        self._forget(number, started_over=False)

    def _forget(self, number: int | None, *, started_over: bool) -> None:
        self.is_complete = False
        self._next = number
        self._recent.clear()
        self._steps.forget(started_over=started_over)

    # -- what waits ----------------------------------------------------------------------------------------

    def _hold(self, number: int, payload: bytes) -> None:
        if number in self._held:
            self._release(number)
        size_bytes = len(payload) + _ENTRY_BYTES
        if self._held_bytes + size_bytes <= MAX_HELD_BYTES:
            self._held[number] = payload
            self._held_bytes += size_bytes

    def _release_what_was_asked_for(self) -> None:
        """Drop what was held before the worker was asked: its answer has all that was published by then."""
        for number in self._held_before & self._held.keys():
            self._release(number)

    def _release(self, number: int) -> bytes:
        payload = self._held.pop(number)
        self._held_bytes -= len(payload) + _ENTRY_BYTES
        return payload
