"""A workload by its name: a file, standard input, a built-in sample or a generator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from understudy.errors import TraceError, UsageError, unknown_name
from understudy.workload.formats import TraceFormat, recognise
from understudy.workload.generators import generator, known_generators
from understudy.workload.records import RecordError
from understudy.workload.request import WorkloadRequest
from understudy.workload.samples import SAMPLES, known_samples, sample_source
from understudy.workload.source import Source, file_source, standard_input

_STANDARD_INPUT = "-"
_GENERATED = "generated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A workload that can be iterated any number of times, from its start each time and never held whole.

    `name` is what it was opened by. `format` is mooncake, azure, native or generated. At most `limit`
    requests are given. `num_requests` is how many there will be, None where only reading would tell.
    Iteration raises TraceError.
    """

    name: str
    format: str
    limit: int | None
    num_requests: int | None
    read: Callable[[], Iterator[WorkloadRequest]]
    source: Source | None

    def __iter__(self) -> Iterator[WorkloadRequest]:
        return islice(self.read(), self.limit)

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the input's bytes as they are stored; None for a generated workload.

        A packed file is hashed packed, and whole, whatever the limit. This reads the input once more.
        """
        return None if self.source is None else self.source.sha256()


def open_trace(name: str | Path, *, limit: int | None = None) -> Trace:
    """Open a workload and look at its first line.

    `name` is `-` for standard input, a built-in sample, a generator with or without parameters such as
    `chat:requests=500,seed=7`, or the path of a file. A file with the name of a sample or a generator is
    found as `./chat`, or if given as a Path. Standard input is read to its end at once.

    Raises TraceError for input that is missing, unreadable, empty or in no known format, UsageError for wrong
    parameters of a generator or a wrong limit.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit of requests must be at least 1, got {limit}")
    if name == "":
        raise UsageError("the trace has no name: give a file, -, a sample or a generator")
    head, separator, _ = str(name).partition(":")
    if isinstance(name, str) and head in known_generators():
        return _generated(name, limit)
    if isinstance(name, str) and separator and head in SAMPLES:
        raise UsageError(
            f"{name}: the sample {head} takes no parameters; --limit reads its first requests only"
        )
    num_requests: int | None = None
    if name == _STANDARD_INPUT:
        source = standard_input()
    elif isinstance(name, str) and name in SAMPLES:
        source = sample_source(name)
        num_requests = _at_most(SAMPLES[name].num_requests, limit)
    else:
        source = _named_file(name)
    trace_format = _format(source)
    return Trace(
        name=str(name),
        format=trace_format.name,
        limit=limit,
        num_requests=num_requests,
        read=lambda: _requests(source, trace_format),
        source=source,
    )


def _generated(name: str, limit: int | None) -> Trace:
    parameters = generator(name)
    return Trace(
        name=name,
        format=_GENERATED,
        limit=limit,
        num_requests=_at_most(parameters.requests, limit),
        read=parameters.generate,
        source=None,
    )


def _named_file(name: str | Path) -> Source:
    try:
        return file_source(Path(name))
    except FileNotFoundError:
        known = (*known_samples(), *known_generators())
        hint = unknown_name("sample or generator", str(name).partition(":")[0], known)
        raise TraceError(f"{name}: no such file, and {hint}") from None


def _at_most(num_requests: int, limit: int | None) -> int:
    return num_requests if limit is None else min(num_requests, limit)


def _format(source: Source) -> TraceFormat:
    for number, line in source.lines():
        try:
            return recognise(line)
        except (RecordError, UnicodeDecodeError) as error:
            raise _located(source, number, error) from None
    raise _no_requests(source)


def _requests(source: Source, trace_format: TraceFormat) -> Iterator[WorkloadRequest]:
    parse = trace_format.parser().parse
    lines = source.lines()
    if trace_format.has_header:
        next(lines, None)
    number = None
    for number, line in lines:
        try:
            request = parse(line)
        except (RecordError, UnicodeDecodeError) as error:
            raise _located(source, number, error) from None
        yield request
    if number is None:
        raise _no_requests(source)


def _located(source: Source, number: int, error: RecordError | UnicodeDecodeError) -> TraceError:
    problem = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
    return TraceError(f"{source.name}: line {number}: {problem}")


def _no_requests(source: Source) -> TraceError:
    return TraceError(f"{source.name}: no requests in it")
