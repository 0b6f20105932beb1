"""The exit statuses of every command."""

SUCCESS = 0
FAILED = 1
"""Something that was read is malformed, or results cannot be written."""
WRONG_USAGE = 2
INTERRUPTED = 130
"""By Ctrl-C; as shells report it."""
