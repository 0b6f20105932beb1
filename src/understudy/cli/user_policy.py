"""Loads a routing policy that a user wrote: `FILE.py:FUNCTION`.

It lives beside the command line, not among the policies, because it reads a file and runs what is in it.
"""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from understudy.errors import UsageError
from understudy.routing import Choose, describe_failure


def load_user_policy(reference: str) -> Choose:
    """Return the function that `FILE.py:FUNCTION` names; the file is run once for each call.

    Raises UsageError if there is no such file or function, if running the file raises anything, or if the
    function cannot be called with a request, a fleet and a memory.
    """
    file, _, function = reference.rpartition(":")
    if not file.endswith(".py") or not function:
        raise UsageError(f"policy {reference!r} is not of the form FILE.py:FUNCTION")
    module = _run_file(Path(file))
    choose = getattr(module, function, None)
    if not callable(choose):
        own = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        raise UsageError(
            f"policy file {file!r} has no function {function!r}; it defines: {', '.join(own) or 'nothing'}"
        )
    try:
        inspect.signature(choose).bind("request", "fleet", "memory")
    except (TypeError, ValueError) as error:
        raise UsageError(f"policy {reference!r} must accept (request, fleet, memory): {error}") from None
    policy: Choose = choose
    return policy


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"policy file {str(path)!r} does not exist or is no file")
    location = str(path.resolve())
    spec = importlib.util.spec_from_file_location(f"understudy_user_policy:{location}", location)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise UsageError(
            f"policy file {str(path)!r} cannot be run: {describe_failure(error, location)}"
        ) from error
    return module
