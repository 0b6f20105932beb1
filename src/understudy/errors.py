"""What can go wrong because of the caller or a peer; each message is one line that a person can act on.

UnderstudyError
├── UsageError   the command line or an argument is wrong: exit status 2
├── InputError   something that was read or called broke its contract: exit status 1
│   ├── TraceError   a workload file, with its line and field
│   └── PolicyError  a routing policy raised or named no worker
└── OutputError  results cannot be written where they should go: exit status 1

Our own mistakes are assertions, never these.
"""

import difflib
from collections.abc import Iterable

_MOST_NEAR = 3


class UnderstudyError(Exception):
    """Base of every error that a person can mend."""


class UsageError(UnderstudyError):
    """The command line or an argument names something that does not exist or cannot be."""


class InputError(UnderstudyError):
    """Something that was read, or called on the user's behalf, broke its contract."""


class TraceError(InputError):
    """A workload file is malformed; the message names the line and the field."""


class PolicyError(InputError):
    """A routing policy raised an exception or named a worker that does not exist."""


class OutputError(UnderstudyError):
    """Results cannot be written where they were asked for."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not known: with those that it begins and the nearest, or else with all."""
    names = sorted(known)
    begun = [other for other in names if name and other.casefold().startswith(name.casefold())]
    nearest = difflib.get_close_matches(name, names, n=_MOST_NEAR, cutoff=0.5)
    near = list(dict.fromkeys([*begun, *nearest]))[: max(_MOST_NEAR, len(begun))]
    if near:
        return UsageError(f"unknown {kind} {name!r}: did you mean {', '.join(near)}?")
    return UsageError(f"unknown {kind} {name!r}: known are {', '.join(names)}")
