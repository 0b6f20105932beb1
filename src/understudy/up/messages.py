"""What people and programs are told of a fleet: the workers' lines, what is ready, what has happened."""

import json
import re
import shlex
from collections import Counter, deque
from collections.abc import Iterator
from typing import Literal

from understudy.gateway.settings import RouteSettings
from understudy.up.processes import KEPT_LINES, Worker
from understudy.up.run import Ready
from understudy.up.terminal import Terminal

LogLevel = Literal["debug", "info", "warning", "error"]

OURS = "up"
"""The name before our own lines."""

_LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}
_LEVEL = re.compile(r"([A-Z]+): ")


class Messages:
    """Tells a terminal, of the workers' logs only lines of `level` and above. `prints_json`: what is ready is told as JSON."""

    def __init__(
        self, terminal: Terminal, settings: RouteSettings, *, level: LogLevel, prints_json: bool
    ) -> None:
        self._terminal = terminal
        self._settings = settings
        self._least = _LEVELS[level.upper()]
        self._prints_json = prints_json
        self._is_shown: dict[Worker, bool] = {}
        self._left_out: dict[Worker, deque[str]] = {}

    def said(self, worker: Worker, line: str) -> None:
        """Show a line of a worker; one without a level belongs to the line before it."""
        if (found := _LEVEL.match(line)) and found[1] in _LEVELS:
            self._is_shown[worker] = _LEVELS[found[1]] >= self._least
        if self._is_shown.get(worker, True):
            self._terminal.say(worker.name, line)
        else:
            self._left_out.setdefault(worker, deque(maxlen=KEPT_LINES)).append(line)

    def progress(self, text: str) -> None:
        """Show what is waited for."""
        self._terminal.progress(text)

    def ready(self, ready: Ready) -> None:
        """Show where requests go, and how to try it."""
        if self._prints_json:
            self._terminal.result(json.dumps(_document(ready, self._settings)))
        else:
            self._terminal.result("\n".join(_lines(ready, self._settings)))

    def happened(self, text: str) -> None:
        """Show a sentence."""
        self._terminal.say(OURS, text)

    def failed(self, worker: Worker) -> None:
        """Show of the last lines of a worker those that were left out."""
        for line in self._left_out.pop(worker, ()):
            self._terminal.say(worker.name, line)


def _document(ready: Ready, settings: RouteSettings) -> dict[str, object]:
    return {
        "url": ready.url,
        "admin_url": ready.admin_url,
        "policy": settings.policy,
        "seconds": round(ready.seconds, 3),
        "workers": [
            {
                "name": worker.name,
                "url": worker.url,
                "admin_url": worker.admin_url,
                "pid": worker.pid,
                "models": worker.plan.models,
                "gpu": worker.plan.gpu,
            }
            for worker in ready.workers
        ],
    }


def _lines(ready: Ready, settings: RouteSettings) -> Iterator[str]:
    yield f"router     {ready.url}, policy {settings.policy}, ready after {ready.seconds:.1f} s"
    if ready.admin_url is not None:
        yield f"admin API  {ready.admin_url}"
    kinds = Counter((worker.plan.models, worker.plan.gpu) for worker in ready.workers)
    for (models, gpu), count in kinds.items():
        yield f"model      {', '.join(models)}: {count} worker{'s' if count > 1 else ''} on {gpu}"
    for worker in ready.workers:
        if worker.admin_url is not None:
            yield f"{worker.name:<10} {worker.url}, admin port {worker.admin_url}"
    yield f"try        {_curl(ready, settings)}"


def _curl(ready: Ready, settings: RouteSettings) -> str:
    body = {"model": ready.workers[0].plan.models[0], "prompt": "Once upon a time", "max_tokens": 16}
    words = [
        "curl",
        f"{ready.url}/v1/completions",
        "-H",
        "Content-Type: application/json",
        "-d",
        json.dumps(body),
    ]
    if settings.ssl_certfile is not None:
        words += ["--cacert", str(settings.ssl_certfile)]
    key = ' -H "Authorization: Bearer $API_KEY"' if settings.api_key else ""
    return shlex.join(words) + key
