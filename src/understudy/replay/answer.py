"""What one client sees of a streamed completion, event by event: when tokens come, and what is told besides."""

from array import array
from collections.abc import Mapping

import msgspec

from understudy.replay.record import WHOLE

_MAX_LINE_BYTES = 1 << 20
_MAX_MESSAGE_CHARACTERS = 4096
_DATA = b"data:"
_DONE = b"[DONE]"
_COMMENT = b":"
_MAX_REASON_CHARACTERS = 20
_STATUSES = range(400, 600)

SIMULATED_TIMES: Mapping[str, str] = {
    f"x-understudy-{name}-seconds": f"{name.replace('-', '_')}_seconds"
    for name in ("arrival", "queued", "scheduled", "first-token", "last-token")
}
"""What `understudy serve --simulated-time-headers` tells in comments of a stream, by the names that results have."""


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Error(msgspec.Struct, gc=False):
    message: str | None = None
    code: int | str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Event)


class AnswerReader:
    """Reads one answer of at most `wanted_tokens` tokens; times are on whatever clock `feed` is given.

    `output_tokens` is what the server counts, and without that the number of its events. `inter_token_ns` has a gap for
    each token after the first, 0 for those that came together. `cached_tokens` is None until told. `failure` says what
    was wrong, as a status of a record; `message` is the server's own word for it.
    """

    def __init__(self, wanted_tokens: int) -> None:
        self.first_token_ns: int | None = None
        self.last_token_ns: int | None = None
        self.inter_token_ns = array("q")
        self.output_tokens = 0
        self.cached_tokens: int | None = None
        self.finish_reason: str | None = None
        self.simulated: dict[str, float] = {}
        self.failure: str | None = None
        self.message: str | None = None
        self.is_done = False
        self._wanted_tokens = wanted_tokens
        self._num_seen = 0
        self._rest = b""

    def feed(self, data: bytes, at_ns: int) -> None:
        """Take what has come at a time; after [DONE] or a failure nothing counts."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.strip(), at_ns)
        if len(self._rest) > _MAX_LINE_BYTES:
            self._fail("unreadable", f"a line of more than {_MAX_LINE_BYTES:,} bytes")

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.is_done or self.failure is not None

    def status(self) -> str:
        """Return the status of the answer as far as it has come, where nothing more will."""
        if self.failure is not None:
            return self.failure
        if not self.is_done or self.finish_reason is None:
            return "broken"
        if self.finish_reason in WHOLE:
            return self.finish_reason
        is_plain = self.finish_reason.isascii() and self.finish_reason.isalpha()
        return f"finish-{self.finish_reason[:_MAX_REASON_CHARACTERS] if is_plain else 'other'}"

    def _line(self, line: bytes, at_ns: int) -> None:
        if self.is_over:
            return
        if line.startswith(_COMMENT):
            self._comment(line[len(_COMMENT) :])
        elif line.startswith(_DATA):
            data = line[len(_DATA) :].strip()
            if data == _DONE:
                self.is_done = True
            else:
                self._event(data, at_ns)

    def _comment(self, comment: bytes) -> None:
        name, _, value = comment.partition(b":")
        self.told(name.strip().decode(errors="replace"), value.strip().decode(errors="replace"))

    def told(self, name: str, value: str) -> None:
        """Take a header, or a comment of that form; only simulated times count."""
        key = SIMULATED_TIMES.get(name.lower())
        if key is not None:
            try:
                self.simulated[key] = msgspec.json.decode(value, type=float)
            except msgspec.DecodeError:
                return

    def _event(self, data: bytes, at_ns: int) -> None:
        try:
            event = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._fail("unreadable", data.decode(errors="replace"))
            return
        if event.error is not None:
            code = event.error.code
            is_status = isinstance(code, int) and code in _STATUSES
            self._fail(f"error-{code}" if is_status else "error", event.error.message)
            return
        usage = event.usage
        if event.choices:
            told = None if usage is None else usage.completion_tokens
            self._tokens(self._num_seen + 1 if told is None else told, at_ns)
            self.finish_reason = event.choices[0].finish_reason or self.finish_reason
        if usage is None:
            return
        if usage.completion_tokens is not None:
            self.output_tokens = max(min(usage.completion_tokens, self._wanted_tokens), 0)
        if usage.prompt_tokens_details is not None:
            self.cached_tokens = usage.prompt_tokens_details.cached_tokens

    def _tokens(self, told: int, at_ns: int) -> None:
        """Count tokens up to the number that was told; no server makes us count more than were wanted."""
        num_new = min(told, self._wanted_tokens) - self._num_seen
        if num_new <= 0:
            return
        if self.last_token_ns is None:
            self.first_token_ns = at_ns
        else:
            self.inter_token_ns.append(at_ns - self.last_token_ns)
        self.inter_token_ns.extend([0] * (num_new - 1))
        self.last_token_ns = at_ns
        self._num_seen += num_new
        self.output_tokens = self._num_seen

    def _fail(self, failure: str, message: str | None) -> None:
        self.failure = failure
        self.message = None if message is None else message[:_MAX_MESSAGE_CHARACTERS]
