"""What `--help` shows."""

import pytest
from tests.server.arguments.parsing import outcome

from understudy.server.arguments.flags import OWN_FLAGS, acting_dests, read_catalogue

GROUPS = read_catalogue().groups


def _help(argument: str) -> str:
    ended = outcome([argument])
    assert ended.status == 0
    return ended.text


def _lines(text: str) -> dict[str, str]:
    """Return the lines of flags by their first name."""
    lines = (line.strip() for line in text.splitlines() if line.startswith("  -"))
    return {line.split()[0].rstrip(","): line for line in lines}


def test_all_flags_are_shown_with_their_default_and_whether_they_act() -> None:
    """Each has one line with its visible names, its default, and a mark if it has no effect here."""
    lines = _lines(_help("--help=all"))
    for flag in (flag for group in GROUPS for flag in group.flags):
        line = lines[flag.names[0]]
        assert line.startswith(", ".join(flag.shown_names))
        assert ("default: " + (str(flag.default) or '""')) in line
        assert ("no effect here" in line) is (flag.dest not in acting_dests())


@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_plain_help_is_an_overview(argument: str) -> None:
    """It names each group and no flag of any."""
    text = _help(argument)
    assert all(f"\n  {group.title} " in text for group in GROUPS)
    assert "--max-num-seqs" not in text


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_a_group_is_shown_whatever_its_case(group: object) -> None:
    """Its flags and no others."""
    wanted = next(known for known in GROUPS if known is group)
    lines = _lines(_help(f"--help={wanted.title.upper()}"))
    assert sorted(set(lines) - {"--json-arg.key1", "--json-arg.key4+", "--json-arg"}) == sorted(
        flag.names[0] for flag in wanted.flags
    )


def test_flags_are_found_by_a_part_of_their_name() -> None:
    """`_` and `-` are the same, and hidden names are not found."""
    assert "--max-model-len" in _help("--help=MAX_model")
    assert "--enable-prefix-caching" in _help("--help=disable-prefix")
    assert "No group or arguments matching" in _help("--help=no-enable-prefix")


def test_each_flag_of_our_own_says_what_it_does() -> None:
    """On a line of its own below the flag."""
    text = _help("--help=understudy")
    for flag in OWN_FLAGS:
        assert flag.help
        assert f"\n      {flag.help}\n" in text
