"""`python -m understudy.up.child WORDS`: runs `understudy WORDS` until standard input ends.

Whoever starts it holds the other end of that pipe and never writes: however that process ends, the pipe is closed then,
and this one ends too.
"""

import os
import runpy
import sys
import threading

MODULE = "understudy.up.child"
_ORPHANED = 1


def _end_with_standard_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    sys.argv[0] = "understudy"
    runpy.run_module("understudy", run_name="__main__")
