"""What a router without news of a worker's blocks takes it to hold: what it sent there lately.

Nobody tells it what the worker evicts, so it keeps a bounded number of blocks and forgets those that it sent
longest ago, those of a certain age at once.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import takewhile

from understudy.routing.prefix_index import PrefixIndex


class GuessedBlocks:
    """The last `max_blocks` blocks that were sent to one worker, kept in an index that hears of it from here alone.

    A block is forgotten when it was sent last `max_age_ns` ago; None: never for its age. Times never go back.
    """

    def __init__(
        self, index: PrefixIndex, worker: int, max_blocks: int, max_age_ns: int | None = None
    ) -> None:
        self._index = index
        self._worker = worker
        self._max_blocks = max_blocks
        self._max_age_ns = max_age_ns
        self._sent_ns: OrderedDict[Hashable, int] = OrderedDict()
        """When each block was sent last, in that order."""

    def sent(self, hashes: Sequence[Hashable], now_ns: int) -> None:
        """Note that a prompt of these blocks went to the worker now.

        Its first block counts as the most recent: a prompt is forgotten from its end, which is also how vLLM
        evicts, since a block without those before it is worth nothing.
        """
        self.forget_old(now_ns)
        if len(hashes) > self._max_blocks:
            hashes = list(dict.fromkeys(hashes))[: self._max_blocks]
        sent_ns = self._sent_ns
        new: list[Hashable] = []
        for block in reversed(hashes):
            if block in sent_ns:
                sent_ns.move_to_end(block)
            else:
                new.append(block)
            sent_ns[block] = now_ns
        excess = len(sent_ns) - self._max_blocks
        if excess > 0:
            self._index.removed(self._worker, [sent_ns.popitem(last=False)[0] for _ in range(excess)])
        self._index.stored(self._worker, new)

    def forget_old(self, now_ns: int) -> None:
        """Forget what has reached its age by now."""
        if self._max_age_ns is None:
            return
        latest_ns = now_ns - self._max_age_ns
        sent_ns = self._sent_ns
        old = [block for block, _ in takewhile(lambda item: item[1] <= latest_ns, sent_ns.items())]
        for block in old:
            del sent_ns[block]
        self._index.removed(self._worker, old)
