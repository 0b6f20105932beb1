"""What a command line is refused for before anything runs, and what it is resolved to."""

import os
from pathlib import Path

import pytest

from understudy.errors import InputError, UsageError
from understudy.server.arguments import parse_serve_arguments
from understudy.server.arguments.parser_names import parser_names
from understudy.server.settings import MAX_ENGINES, Settings, settings_of


def _settings(*words: str) -> Settings:
    return settings_of(parse_serve_arguments(["llama-3.1-8b", *words], {}), {})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--tool-call-parser nope --enable-auto-tool-choice", "invalid tool call parser: nope"),
        ("--reasoning-parser nope", "invalid reasoning parser: nope"),
        ("--structured-outputs-config.reasoning_parser nope", "invalid reasoning parser: nope"),
        ("--admin-port 8123 --port 8123", "--admin-port and --port are both 8123"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(words: str, says: str) -> None:
    """With one sentence."""
    with pytest.raises(UsageError, match=says) as raised:
        _settings(*words.split())
    assert "\n" not in str(raised.value)


def test_without_a_model_the_accepted_ones_are_named() -> None:
    """The default of vLLM is not in the catalogue."""
    with pytest.raises(UsageError, match=r"no model is given.*'Qwen/Qwen3-0.6B': known are .*llama-3.1-8b"):
        settings_of(parse_serve_arguments([], {}), {})


def test_the_parsers_that_are_accepted_are_named() -> None:
    """All that vLLM lists."""
    with pytest.raises(UsageError) as raised:
        _settings("--tool-call-parser", "nope", "--enable-auto-tool-choice")
    assert all(name in str(raised.value) for name in parser_names().tool_call_parsers)


@pytest.mark.parametrize(
    "words",
    [
        "--tool-call-parser nope",
        "--tool-call-parser hermes --enable-auto-tool-choice --reasoning-parser qwen3",
        "--tool-call-parser mine --enable-auto-tool-choice --tool-parser-plugin mine.py",
        "--reasoning-parser mine --reasoning-parser-plugin mine.py",
        "--reasoning-parser none",
        "--admin-port 8123 --port 8123 --uds /tmp/socket",
    ],
)
def test_what_vllm_takes_is_taken(words: str) -> None:
    """A parser that is not used, that vLLM knows, or that a plugin may bring."""
    assert _settings(*words.split()).served_model_names == ("llama-3.1-8b",)


def test_a_chat_template_is_read_and_its_syntax_checked(tmp_path: Path) -> None:
    """From a file or as it is given; a fault is one sentence at start, not an answer to each chat."""
    path = tmp_path / "template.jinja"
    path.write_text("{{ messages[0].content }}", encoding="utf-8")
    for given in (str(path), "{{ messages[0].content }}"):
        found = _settings("--chat-template", given).arguments.values["chat_template"]
        assert found == "{{ messages[0].content }}"
    path.write_text("{% if %}", encoding="utf-8")
    for given in (str(path), "{% if %}"):
        with pytest.raises(InputError, match="--chat-template cannot be used: ") as raised:
            _settings("--chat-template", given)
        assert "\n" not in str(raised.value)


HUGE_BYTES = 10 << 30


def _files(folder: Path) -> None:
    """Make a folder in which each file that may be read is as wrong as `huge` and `pipe`; sparse, so that it costs nothing."""
    (folder / "huge").touch()
    os.truncate(folder / "huge", HUGE_BYTES)
    os.mkfifo(folder / "pipe")
    for name in ("huge", "pipe"):
        (folder / f"{name}.yaml").symlink_to(folder / name)
        (folder / f"{name}.json").symlink_to(folder / name)
        for beside in ("config", "generation_config", "tokenizer_config", "tokenizer"):
            (folder / f"{name}-{beside}").mkdir()
            (folder / f"{name}-{beside}" / f"{beside}.json").symlink_to(folder / name)
    (folder / "huge-tokenizer_config" / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "pipe-tokenizer_config" / "tokenizer.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("name", ["huge", "pipe"])
@pytest.mark.parametrize(
    "words",
    [
        "--generator dataset --generator-dataset NAME",
        "--output-length dataset --generator-dataset NAME",
        "--chat-template NAME",
        "--faults NAME.yaml",
        "--config NAME.yaml",
        "--tokenizer NAME-tokenizer",
        "--tokenizer NAME-tokenizer/tokenizer.json",
        "--tokenizer NAME-tokenizer_config",
        "--generation-config NAME-generation_config",
        "--model NAME.json",
        "--model NAME-config",
    ],
)
def test_no_file_of_a_flag_is_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    """A pipe that nobody writes to and ten gigabytes are one sentence with the file's name."""
    _files(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = words.replace("NAME", name).split()
    model = [] if "--model" in given else ["llama-3.1-8b"]
    with pytest.raises(InputError, match=name) as raised:
        settings_of(parse_serve_arguments([*model, *given], {}), {})
    assert "\n" not in str(raised.value)


def test_throughput_doubles_the_limits_of_a_step() -> None:
    """As vLLM's performance mode does."""
    usual, doubled = _settings().engine_config, _settings("--performance-mode=throughput").engine_config
    assert doubled.max_num_batched_tokens == 2 * usual.max_num_batched_tokens
    assert doubled.max_num_seqs == 2 * usual.max_num_seqs


def test_no_more_engines_than_a_process_holds() -> None:
    """One more than the most is refused before any is made."""
    with pytest.raises(UsageError, match=f"at most {MAX_ENGINES}, got {MAX_ENGINES + 1}"):
        _settings("--data-parallel-size", str(MAX_ENGINES + 1))
