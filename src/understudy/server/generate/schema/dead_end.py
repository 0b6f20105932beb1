"""What ends an attempt to write a value."""


class DeadEnd(Exception):  # noqa: N818 - it is no error: another way is tried
    """The choices made so far lead to no value."""
