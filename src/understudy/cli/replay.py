"""`understudy replay`: a workload sent to a real endpoint, in real time, and what its clients saw."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from cyclopts import Group, Parameter

from understudy import __version__
from understudy.cli.command_line import command_line
from understudy.cli.options import ArrivalPattern, Output, OutputOptions, Pattern, TraceName
from understudy.cli.progress import progress_on
from understudy.cli.results import plain_text, results_path, tell
from understudy.errors import UsageError
from understudy.fleet import Comparison, ResultsFolder, write_results
from understudy.replay import (
    PromptTokens,
    Replay,
    ReplaySettings,
    allow_connections,
    ask_served,
    endpoint,
    findings,
    notes_on_replay,
    open_session,
    survey,
)
from understudy.report import comparison_html
from understudy.tokenize import VOCABULARY_SIZE
from understudy.workload import open_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingOptions:
    """To whom requests go, and how."""

    model: str | None = None
    """The model to ask for. [default: the first that the endpoint lists]"""
    speed: float = 1.0
    """How many times as fast as on the wall the trace's clock goes. Requests come so much closer together, and all times
    that are reported are on the trace's clock: they compare with a server at --time-scale 1/SPEED."""
    max_connections: int = 1024
    """At most so many requests are under way at once; a note tells if that held any back."""
    timeout_seconds: float | None = None
    """How long an answer may take, by a clock on the wall. [default: for ever]"""
    vocabulary_size: int = VOCABULARY_SIZE
    """Prompts of which a trace tells only the segments are made of token ids below this."""
    name: str = "replay"
    """What the run is called in the results."""
    seed: int = 0
    """Seeds arrivals at random."""

    def settings(self) -> ReplaySettings:
        """Return the same for the replay, with as many connections as this process may open."""
        settings = ReplaySettings(
            speed=self.speed, max_connections=self.max_connections, timeout_seconds=self.timeout_seconds
        )
        if not self.name:
            raise UsageError("--name must not be empty")
        return replace(settings, max_connections=allow_connections(settings.max_connections))


_AS_IN_THE_TRACE = ArrivalPattern()

Sending = Annotated[SendingOptions, Parameter(name="*", group=Group("Sending", sort_key=2))]
Url = Annotated[str, Parameter(help="Where an OpenAI API is served, such as http://127.0.0.1:8000.")]
ApiKey = Annotated[
    str | None,
    Parameter(help="The endpoint's API key; it is not kept. [default: the environment's OPENAI_API_KEY]"),
]


def replay(
    trace: TraceName,
    /,
    *,
    url: Url,
    api_key: ApiKey = None,
    sending: Sending = SendingOptions(),
    arrivals: Pattern = _AS_IN_THE_TRACE,
    output: Output = OutputOptions(),
) -> int:
    """Send a workload to an OpenAI endpoint in real time, and report what its clients saw.

    Parameters
    ----------
    trace
        As for simulate.
    """
    arrivals.check()
    target = endpoint(url, api_key or os.environ.get("OPENAI_API_KEY"))
    settings = sending.settings()
    tokens = PromptTokens(sending.vocabulary_size)
    workload = open_trace(trace, limit=arrivals.limit)
    requests = survey(workload, tokens)
    in_time = arrivals.arrange(workload, sending.seed)
    with ExitStack() as stack:
        path = results_path(output)
        folder = None if path is None else stack.enter_context(ResultsFolder(path))
        on_arrival = stack.enter_context(progress_on(sys.stderr, requests.num_requests))

        async def run() -> Replay:
            async with open_session() as session:
                served = await ask_served(session, target, sending.model)
                replay = Replay(settings, target, served, in_time, tokens)
                with _interrupting(replay.interrupt):
                    await replay.run(session, lambda count: on_arrival(sending.name, count))
                return replay

        finished = asyncio.run(run())
        found = findings(sending.name, finished)
        comparison = Comparison(
            understudy_version=__version__,
            vllm_version=finished.served.version,
            command=plain_text(command_line(("replay", trace, "--url", url), (sending, arrivals))),
            trace=plain_text(workload.name),
            trace_sha256=workload.sha256,
            settings={
                "url": target.base,
                "model": target.without_key(finished.served.model),
                "max_model_len": finished.served.max_model_len,
                **_chosen(sending, arrivals),
                "trace_format": workload.format,
                **{f"worker {number}": name for number, name in enumerate(found.worker_names)},
            },
            notes=notes_on_replay(finished, requests, tokens, wanted_connections=sending.max_connections),
            interrupted=finished.interrupted,
            runs=[found.summary],
        )
        if folder is not None:
            write_results(folder, comparison, {sending.name: found.records}, comparison_html(comparison))
    return tell(comparison, path, as_json=output.json)


def _chosen(sending: SendingOptions, arrivals: ArrivalPattern) -> dict[str, str | int | float | bool | None]:
    """Return the choices that differ from nothing at all; the name is the run's, the model is told by the endpoint."""
    chosen = asdict(arrivals) | asdict(sending)
    # What simulate calls speed is another thing: there times are as they pass.
    chosen["replay_speed"] = chosen.pop("speed")
    return {
        name: value for name, value in chosen.items() if value is not None and name not in {"name", "model"}
    }


@contextmanager
def _interrupting(interrupt: Callable[[], None]) -> Iterator[None]:
    """Let both signals call back in the event loop meanwhile."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
