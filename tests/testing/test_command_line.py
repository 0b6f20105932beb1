"""The flags of a server in process: those of `understudy serve`, as words or as options."""

import pytest
from tests.testing.client import manual_fleet, manual_server

from understudy.errors import UnderstudyError, UsageError
from understudy.testing.clock_handle import ClockKind
from understudy.testing.command_line import option_words, settings_for


def test_options_are_flags() -> None:
    """Each by its name with dashes; numbers, switches, lists and JSON objects."""
    settings = settings_for(
        ["--max-num-seqs", "8"],
        {
            "served_model_name": ["a", "b"],
            "enable_prefix_caching": False,
            "enable_prompt_tokens_details": True,
            "kv_events_config": {"enable_kv_cache_events": False},
        },
        "manual",
        {},
    )
    assert settings.engine_config.max_num_seqs == 8
    assert not settings.engine_config.enable_prefix_caching
    assert settings.served_model_names == ("a", "b")
    values = settings.arguments.values
    assert values["enable_prompt_tokens_details"] is True
    assert values["kv_events_config"] == {"enable_kv_cache_events": False}
    assert (values["model"], values["port"], values["host"]) == ("llama-3.1-8b", 0, "127.0.0.1")


def test_a_model_and_a_port_may_be_given() -> None:
    """In place of the defaults."""
    values = settings_for(["llama-2-13b", "--port", "8080"], {}, "manual", {}).arguments.values
    assert (values["model"], values["port"]) == ("llama-2-13b", 8080)


def test_the_environment_may_be_another() -> None:
    """A variable that the test gives counts, the process's does not."""
    with manual_server(environment={"VLLM_API_KEY": "secret"}) as server:
        assert server.model == "llama-3.1-8b"
    assert settings_for([], {}, "manual", {"VLLM_API_KEY": "secret"}).api_keys == ("secret",)


@pytest.mark.parametrize(
    ("flags", "kind", "says"),
    [
        (["--no-such-flag"], "manual", "unrecognized arguments: --no-such-flag"),
        (["--gpu", "abacus"], "manual", "abacus"),
        (["--uds", "/tmp/x"], "manual", "--uds has no place"),  # noqa: S108 - it is refused
        (["--startup", "3"], "manual", "--startup has no place"),
        (["--host", "0.0.0.0"], "free", "--host has no place"),  # noqa: S104 - it is refused
        (["--time-scale", "2"], "manual", "--time-scale needs clock='real'"),
        (["--time-scale", "0"], "real", "is clock='free'"),
        ([], "sundial", "unknown clock 'sundial'"),
    ],
)
def test_what_cannot_be_served_is_told(
    flags: list[str], kind: ClockKind, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one error with one sentence; nothing exits, and nothing is printed."""
    with pytest.raises(UnderstudyError, match=says) as error:
        settings_for(flags, {}, kind, {})
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


def test_no_option_is_mistaken_for_a_word() -> None:
    """A number that is 1 or 0 is no switch."""
    assert option_words({"max_num_seqs": 1, "seed": 0}) == ["--max-num-seqs", "1", "--seed", "0"]


def test_a_fleet_has_at_least_one_server() -> None:
    """None at all is a mistake."""
    with pytest.raises(UsageError, match="at least 1"), manual_fleet(0):
        pass
