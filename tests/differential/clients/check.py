"""What each client's script says: a line for everything that it checked."""

import sys
from collections.abc import Callable
from typing import Any


def check(what: str, *, holds: bool) -> None:
    """Print what was checked; end with 1 if it does not hold."""
    print(f"{'ok ' if holds else 'NOT'} {what}", flush=True)
    if not holds:
        sys.exit(1)


def check_refused(what: str, kind: type[Exception], call: Callable[[], Any], said: str = "") -> None:
    """Check that a call raises an error of this kind, with these words in it."""
    try:
        call()
    except kind as error:
        check(what, holds=said in str(error))
    else:
        check(what, holds=False)
