"""What can be chosen for a router, and what cannot."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.gateway.settings import RELOADABLE, RouteSettings, flag_of

GUIDE = Path(__file__).parents[2] / "docs" / "router.md"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
SECRET = "s"  # noqa: S105 - stands for one


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"block_size": 0}, "--block-size must be at least 1, got 0"),
        ({"queue_size": -1}, "--queue-size must be at least 0, got -1"),
        ({"admin_port": -1}, "--admin-port must be at least 0, got -1"),
        ({"idle_seconds": 0.0}, "--idle-seconds must be greater than 0 seconds"),
        ({"connect_seconds": float("nan")}, "--connect-seconds must be greater than 0 seconds"),
        ({"drain_seconds": float("inf")}, "--drain-seconds must be greater than 0 seconds"),
        ({"ssl_certfile": Path("x")}, "--ssl-certfile and --ssl-keyfile go together"),
        ({"tenant_salt": "key"}, "--tenant-salt key needs an --api-key"),
        ({"tenant_salt_secret": SECRET}, "--tenant-salt-secret needs --tenant-salt key"),
        ({"api_key": ("a", "")}, "must not be empty"),
        ({"worker_api_key": ""}, "must not be empty"),
        ({"otlp_endpoint": "localhost:4318"}, "expected a URL as in http://127.0.0.1:4318"),
        ({"otlp_endpoint": "http://[x"}, "expected a URL as in http://127.0.0.1:4318"),
        ({"host": EVERYWHERE}, "--host 0.0.0.0 is open to the network: give an --api-key, or --insecure"),
        ({"host": "::"}, "--host :: is open to the network"),
        ({"host": "router.example"}, "--host router.example is open to the network"),
    ],
)
def test_what_cannot_be_is_told_by_its_flag(choices: dict[str, Any], words: str) -> None:
    """In one sentence."""
    with pytest.raises(UsageError, match=r"^[^\n]*$") as raised:
        RouteSettings(**choices)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "choices",
    [
        {"host": "127.0.0.9"},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": EVERYWHERE, "api_key": ("k",)},
        {"host": EVERYWHERE, "insecure": True},
    ],
)
def test_who_may_come_is_decided_by_the_operator(choices: dict[str, Any]) -> None:
    """On loopback everybody, else who has a key, or everybody where that was asked for."""
    assert RouteSettings(**choices).host == choices["host"]


changes = st.fixed_dictionaries(
    {},
    optional={
        "policy": st.sampled_from(["random", "session"]),
        "retries": st.integers(0, 9),
        "queue_size": st.integers(0, 9),
        "worker_headers": st.booleans(),
        "api_key": st.just(("k",)),
        "port": st.integers(1, 9),
        "block_size": st.integers(1, 9),
        "seed": st.integers(1, 9),
        "tokenizer": st.just("words"),
    },
)


@given(changes, changes)
def test_a_change_takes_effect_or_is_named(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Each flag that differs is changed, or among those that need a restart; never both."""
    old, new = RouteSettings(**before), RouteSettings(**after)
    reloaded, left = old.reloaded(new), old.needing_restart(new)
    for field in fields(RouteSettings):
        name = field.name
        differs = getattr(old, name) != getattr(new, name)
        assert (flag_of(name) in left) == (differs and name not in RELOADABLE)
        assert getattr(reloaded, name) == getattr(new if name in RELOADABLE else old, name)


def test_the_guide_names_every_flag() -> None:
    """And says of those that may change while the router runs that they may."""
    guide = GUIDE.read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip().strip("`"): line for line in guide.splitlines() if line.startswith("| `--")
    }
    for field in fields(RouteSettings):
        row = rows[flag_of(field.name)]
        assert row.rstrip().endswith("| yes |") == (field.name in RELOADABLE), row
    assert len(rows) == len(fields(RouteSettings)) + 3
