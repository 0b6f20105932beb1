"""How much work the writing of one text may take, so that no request holds up the others."""

from understudy.server.generate.constraint_error import ConstraintError

MAX_WORK_UNITS = 50_000
"""Most units for one text. A unit is about what Python does in a microsecond on an ordinary machine."""


class WorkLimitError(ConstraintError):
    """A constraint takes more work than one text may take."""


class Work:
    """Counts the units of one text, whoever does them; what is spent depends on the constraint and on chance alone."""

    __slots__ = ("spent_units",)

    def __init__(self) -> None:
        self.spent_units = 0

    def spend(self, units: int) -> None:
        """Count units before they are done. Raises WorkLimitError beyond the limit."""
        self.spent_units += units
        if self.spent_units > MAX_WORK_UNITS:
            raise WorkLimitError("the constraint is too complex, or demands too large a text")
