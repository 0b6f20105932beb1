"""Asks a policy for a decision and holds it to the contract, so that a user's mistake is told as one."""

import reprlib

from understudy.errors import PolicyError
from understudy.routing.views import Choose, Decision, FleetView, PolicyMemory, RoutingRequest


def decide(
    choose: Choose, name: str, request: RoutingRequest, fleet: FleetView, memory: PolicyMemory
) -> Decision:
    """Return the policy's decision and count it in `memory`.

    A policy that returns the index of a worker made a decision that expects nothing cached. Raises
    PolicyError, naming the policy and the request, if it raises anything or names no worker.
    """
    try:
        answer = choose(request, fleet, memory)
    except (Exception, SystemExit) as error:
        entry = error.__traceback__.tb_next if error.__traceback__ else None
        file = entry.tb_frame.f_code.co_filename if entry else None
        raise PolicyError(
            f"policy {name!r} failed for request {request.request_id!r}: {describe_failure(error, file)}"
        ) from error
    decision = answer if isinstance(answer, Decision) else Decision(answer, 0, "named by the policy")
    if not _is_valid(decision, len(fleet), request.num_blocks):
        raise PolicyError(
            f"policy {name!r} returned {_shown(answer)} for request {request.request_id!r}: "
            f"expected a worker, 0 to {len(fleet) - 1}, or Decision(worker, matched_blocks, reason) "
            f"with matched_blocks from 0 to {request.num_blocks}"
        )
    memory.decisions += 1
    return decision


def describe_failure(error: BaseException, file: str | None) -> str:
    """Return an exception's type, the last line of `file` that it passed through, and its message, in one line."""
    if isinstance(error, SyntaxError) and error.filename == file:
        line, message = error.lineno, error.msg
    else:
        line, message = _last_line_in(error, file), str(error)
    place = "" if line is None else f" at line {line}"
    return _one_line(f"{type(error).__name__}{place}: {message}").rstrip(": ")


def _last_line_in(error: BaseException, file: str | None) -> int | None:
    line = None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _is_valid(decision: Decision, num_workers: int, num_blocks: int) -> bool:
    return (
        _is_index(decision.worker, num_workers)
        and _is_index(decision.matched_blocks, num_blocks + 1)
        and isinstance(decision.reason, str)
    )


def _is_index(value: object, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size


def _shown(answer: object) -> str:
    """Return the answer's representation, cut short where it is long or cannot be had, in one line."""
    short = reprlib.Repr()
    short.maxother = 120
    return _one_line(short.repr(answer))


def _one_line(text: str) -> str:
    return " ".join(text.split())
