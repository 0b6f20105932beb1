"""The command line of `understudy route`: flags, the environment and a file; what is wrong; and what `--explain` says."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.in_process import output_of
from tests.server.serving import serving

from understudy.cli import route as command
from understudy.cli.route import ENVIRONMENT_PREFIX, question_of
from understudy.errors import UsageError
from understudy.gateway.settings import RouteSettings
from understudy.routing import known_policies

GONE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "HEARD_SECONDS", 0.2)
    for variable in list(os.environ):
        if variable.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(variable)


def settings_of(*words: str) -> RouteSettings:
    """Return the settings that a command line asks for."""
    order = command._order_of(words)
    assert order is not None
    return order.settings


def test_flags_count_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting by itself; names in the file are those of the flags, with dashes or underscores."""
    Path("r.yaml").write_text(
        f"worker: [{GONE}, 'http://b']\nqueue-size: 1\nretries: 1\nidle_seconds: 1\naccess-log: false\npolicy:\n"
    )
    monkeypatch.setenv("UNDERSTUDY_ROUTE_RETRIES", "2")
    monkeypatch.setenv("UNDERSTUDY_ROUTE_IDLE_SECONDS", "2")
    monkeypatch.setenv("UNDERSTUDY_ROUTE_API_KEY", "a b")
    for words in (("--config", "r.yaml"), ("--config=r.yaml",)):
        settings = settings_of(*words, "--idle-seconds", "3")
        assert settings.worker == (GONE, "http://b")
        assert (settings.queue_size, settings.retries, settings.idle_seconds) == (1, 2, 3.0)
        assert settings.access_log is False
        assert settings.policy == "prefix"
        assert settings.api_key == ("a", "b")
    monkeypatch.setenv("UNDERSTUDY_ROUTE_CONFIG", "r.yaml")
    assert settings_of().queue_size == 1


def test_a_file_may_have_one_worker_or_many() -> None:
    """A single value stands for a list of one; nothing is a file without settings."""
    Path("r.yaml").write_text(f"worker: {GONE}\n")
    assert settings_of("--config", "r.yaml").worker == (GONE,)
    Path("r.yaml").write_text("")
    assert settings_of("--config", "r.yaml") == RouteSettings()


@pytest.mark.parametrize(
    ("status", "words", "arguments"),
    [
        (2, "route needs a --worker, a --workers-file, or an --admin-port", ()),
        (2, "Unknown option: --polici. Did you mean --policy?", ("--polici", "x")),
        (2, "unknown policy 'x'", ("--worker", GONE, "--policy", "x")),
        (2, 'Invalid value "maybe" for --knowledge', ("--knowledge", "maybe")),
        (2, "--queue-size must be at least 0", ("--worker", GONE, "--queue-size", "-1")),
        (2, "for --port: unable to convert", ("--port", "many")),
        (2, "expected a URL", ("--worker", "nowhere")),
        (2, "Parameter --config requires an argument", ("--config",)),
        (1, "--config: cannot read nowhere: No such file or directory", ("--config", "nowhere")),
        (1, "--config: pipe is no regular file", ("--config", "pipe")),
        (1, "--config: giant has more than", ("--config", "giant")),
        (2, "--config broken.yaml, line 2, column 1: no YAML", ("--config", "broken.yaml")),
        (2, "--config list.yaml: expected lines such as", ("--config", "list.yaml")),
        (
            2,
            "--config unknown.yaml: unknown setting 'polcy': did you mean policy?",
            ("--config", "unknown.yaml"),
        ),
        (2, "unknown setting 'explain'", ("--config", "explain.yaml")),
        (2, "[port] from --config wrong.yaml: unable to convert", ("--config", "wrong.yaml")),
        (2, "--config nested.yaml: worker must be one value, or a list of them", ("--config", "nested.yaml")),
        (2, "--config secret.yaml: worker_api_key must be one value", ("--config", "secret.yaml")),
        (2, "--config half.yaml: retries must be a whole number, got 1.5", ("--config", "half.yaml")),
        (2, "--json needs --explain", ("--worker", GONE, "--json")),
        (2, "must be a request's body in JSON", ("--worker", GONE, "--explain", "{")),
        (2, "has no prompt that could be read", ("--worker", GONE, "--explain", '{"prompt": {}}')),
    ],
)
def test_what_is_wrong_is_told_in_one_line(status: int, words: str, arguments: tuple[str, ...]) -> None:
    """With the status of what it is."""
    os.mkfifo("pipe")
    for name, text in (
        ("giant", "#" * (1 << 21)),
        ("broken.yaml", "port: [\n"),
        ("list.yaml", "- a\n"),
        ("unknown.yaml", "polcy: prefix\n"),
        ("explain.yaml", "explain: x\n"),
        ("wrong.yaml", "port: many\n"),
        ("nested.yaml", "worker: [{url: x}]\n"),
        ("secret.yaml", "worker_api_key: [sesame]\n"),
        ("half.yaml", "retries: 1.5\n"),
    ):
        Path(name).write_text(text)
    found, output = output_of("route", *arguments)
    assert (found, output.count("\n")) == (status, 1), output
    assert words in output
    assert output.startswith("understudy: ")
    assert "sesame" not in output


@given(st.binary(max_size=200))
def test_any_file_is_settings_or_told(data: bytes) -> None:
    """Whatever bytes it holds, no other error comes of it."""
    Path("any.yaml").write_bytes(data)
    with contextlib.suppress(UsageError):
        assert isinstance(settings_of("--config", "any.yaml"), RouteSettings)


def test_unknown_variables_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a warning: whoever starts the router may set more than is meant for it."""
    monkeypatch.setenv("UNDERSTUDY_ROUTE_POLCY", "x")
    monkeypatch.setenv("UNDERSTUDY_ROUTE_SEED", "1")
    output_of("route", "--worker", GONE, "--explain", "x")
    assert [message for message in caplog.messages if "POLCY" in message] == [
        "UNDERSTUDY_ROUTE_POLCY in the environment sets nothing: there is no such flag"
    ]


def test_help_names_every_flag() -> None:
    """And its variable."""
    status, output = output_of("route", "--help")
    assert status == 0
    words = set(output.replace("│", " ").split())
    for field in fields(RouteSettings):
        assert f"--{field.name.replace('_', '-')}" in words


def test_without_workers_nothing_is_explained() -> None:
    """It says so, with status 1."""
    status, _ = output_of("route", "--worker", GONE, "--explain", "x")
    assert status == 1


@contextlib.contextmanager
def worker() -> Iterator[str]:
    """Serve one worker from another thread, and yield where it is reached."""
    started, done = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with serving() as served:
            urls.append(served.url)
            started.set()
            while not done.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    try:
        yield urls[0]
    finally:
        done.set()
        thread.join()


def test_decisions_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a text, and for a body in JSON of a completion, a chat and a response; as tables and as JSON."""
    monkeypatch.setattr(command, "HEARD_SECONDS", 10.0)
    with worker() as url:
        text = "hello there " * 20
        sizes = []
        for prompt in (
            text,
            json.dumps({"prompt": text}),
            json.dumps({"messages": [{"role": "user", "content": text}]}),
            json.dumps({"input": text}),
        ):
            status, output = output_of(
                "route", "--worker", url, "--knowledge", "own", "--explain", prompt, "--json"
            )
            assert status == 0
            document: Mapping[str, Any] = json.loads(output)
            assert {each["policy"] for each in document["policies"]} == set(known_policies())
            assert {each["worker"] for each in document["policies"]} == {url}
            assert [each["in_use"] for each in document["policies"]].count(True) == 1
            sizes.append(document["prompt_tokens"])
        assert sizes[0] == sizes[1] < sizes[2] == sizes[3]
        status, output = output_of("route", "--worker", url, "--knowledge", "own", "--explain", text)
        assert status == 0
        assert output.startswith(f"{sizes[0]} tokens, ")
        assert all(name in output for name in known_policies())


@pytest.mark.parametrize(
    ("prompt", "path"),
    [
        ("hello {", "/v1/completions"),
        ('{"prompt": "x"}', "/v1/completions"),
        (' {"messages": []}', "/v1/chat/completions"),
        ('{"input": "x"}', "/v1/responses"),
    ],
)
def test_a_prompt_says_where_it_would_go(prompt: str, path: str) -> None:
    """By what is in it."""
    assert question_of(prompt)[0] == path
