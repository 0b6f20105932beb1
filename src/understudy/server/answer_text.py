"""The text of an answer, token by token, up to a stop string. It knows no engine and no socket.

The rules are those of vllm/v1/engine/detokenizer.py, 0.33.0.
"""

from collections.abc import Sequence

from understudy.tokenize import TextStream


class AnswerText:
    """Text that grows by tokens. What might be the beginning of a stop string is held back from `take`."""

    __slots__ = (
        "_held_back",
        "_includes_stop",
        "_longest",
        "_min_tokens",
        "_new",
        "_num_tokens",
        "_stop",
        "_stream",
        "_tail",
        "_taken",
    )

    def __init__(
        self,
        stream: TextStream,
        *,
        stop: Sequence[str] = (),
        include_stop_str_in_output: bool = False,
        min_tokens: int = 0,
    ) -> None:
        self._taken: list[str] = []
        self._new = ""
        self._stream = stream
        self._stop = tuple(stop)
        self._includes_stop = include_stop_str_in_output
        self._min_tokens = min_tokens
        self._num_tokens = 0
        self._longest = max(map(len, stop), default=0)
        self._held_back = max(self._longest - 1, 0) if not include_stop_str_in_output else 0
        # The end of what was taken, in which a stop string may begin that is to be included.
        self._tail = ""

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._taken) + self._new

    def add(self, token_id: int, *, ends_by_token: bool = False) -> str | None:
        """Take a token; return the stop string that it completes, if it does, and the text ends there.

        A token that ends the answer by itself (end of sequence, a stop token) has no text, unless what stops is to be
        included.
        """
        self._num_tokens += 1
        if ends_by_token and not self._includes_stop:
            return None
        new = self._stream.add(token_id)
        self._new += new
        if self._stop and new and self._num_tokens > self._min_tokens:
            return self._cut_at_stop(len(new))
        return None

    def take(self, *, finished: bool) -> str:
        """Return the text that has become certain since the last call; all that is left when the answer is finished."""
        text = self._new
        if self._held_back and not finished:
            text = text[: -self._held_back]
            self._new = self._new[len(text) :]
        else:
            self._new = ""
        self._taken.append(text)
        if self._stop:
            self._tail = (self._tail + text)[-self._longest :]
        return text

    def _cut_at_stop(self, num_new: int) -> str | None:
        """Look for the stop string that is complete first, among those that end in the new characters."""
        text = self._tail + self._new
        found = [
            (start + len(stop), order, stop)
            for order, stop in enumerate(self._stop)
            if (start := text.find(stop, max(0, len(text) - num_new - len(stop) + 1))) >= 0
        ]
        if not found:
            return None
        end, _, stop = min(found)
        self._new = text[len(self._tail) : end if self._includes_stop else end - len(stop)]
        return stop
