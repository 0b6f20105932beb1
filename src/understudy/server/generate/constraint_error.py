"""The error of a constraint that no text can satisfy, or that is not understood."""

from collections.abc import Iterator
from contextlib import contextmanager

from understudy.errors import InputError


class ConstraintError(InputError):
    """A structured output or the parameters of a tool ask for what cannot be; the message is for whoever sent it."""


@contextmanager
def malformed_is_refused(what: str) -> Iterator[None]:
    """Turn what Python raises over values of an unexpected shape into ConstraintError: whatever is sent is the sender's."""
    try:
        yield
    except RecursionError:
        raise ConstraintError(f"{what} is nested too deeply") from None
    except (TypeError, ValueError, OverflowError):
        raise ConstraintError(f"{what} is not of a form that is understood") from None
