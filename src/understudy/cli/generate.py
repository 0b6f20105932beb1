"""`understudy generate`: writes a generated workload in our own format, for other tools or to be edited."""

import sys

from understudy.cli.options import TraceName
from understudy.workload import open_trace, write_native


def generate(generator: TraceName, /) -> None:
    """Print a workload as JSON lines in understudy's own format.

    Parameters
    ----------
    generator
        What to generate, such as chat:requests=500,seed=7; known are system-prompts, chat, rag and unshared.
        A trace whose prompts are token ids or text may be given too.
    """
    write_native(open_trace(generator), sys.stdout.buffer)
