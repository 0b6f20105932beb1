"""The error of a constraint that no text can satisfy, or that is not understood."""

from understudy.errors import InputError


class ConstraintError(InputError):
    """A structured output or the parameters of a tool ask for what cannot be; the message is for whoever sent it."""
