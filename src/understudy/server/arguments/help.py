"""The text of `--help`, in the shape of vLLM's: groups first, one group, one flag, or all flags on demand."""

from collections.abc import Iterable
from textwrap import dedent, indent

from understudy.server.arguments.flags import Catalogue, Flag, Group

_COLUMN = 48
_HELP_INDENT = 4
_NO_EFFECT = "no effect here"
_INTRODUCTION = """\
    An HTTP server that answers as `vllm serve` of vLLM 0.33 does, without a GPU. It takes every flag of it; those
    marked "no effect here" change nothing and are named when the server starts.
    """
_EPILOGUE = """\
    For full list:            understudy serve --help=all
    For a section:            understudy serve --help=ModelConfig    (case-insensitive)
    For a flag:               understudy serve --help=max-model-len  (_ or - accepted)
    """
_JSON_TIP = """\
    A flag that takes JSON also takes its keys one by one:
      --json-arg '{"key1": "value1", "key2": {"key3": "value2"}}'
      --json-arg.key1 value1 --json-arg.key2.key3 value2
    and the items of its lists with +:
      --json-arg.key4+ value3 --json-arg.key4+='value4,value5'
    """


def help_text(catalogue: Catalogue, acting: frozenset[str], usage: str, keyword: str | None) -> str:
    """Return the overview, or what `--help=KEYWORD` finds: `all`, the title of a group, or a part of a flag's name."""
    if keyword is None:
        return "\n".join((usage, dedent(_INTRODUCTION), *_overview(catalogue, acting), dedent(_EPILOGUE)))
    wanted = keyword.lower().replace("_", "-")
    groups = [group for group in catalogue.groups if wanted in {"all", group.title.lower()}]
    if not groups:
        matching = tuple(
            flag
            for group in catalogue.groups
            for flag in group.flags
            if any(wanted in name for name in flag.shown_names)
        )
        groups = [Group(f"Arguments matching {wanted!r}", matching)] if matching else []
    if not groups:
        return (
            f"No group or arguments matching {wanted!r}.\nUse '--help' to see available groups or '--help=all' to see "
            "all available parameters.\n"
        )
    sections = [f"{group.title}:\n{indent(_lines(group.flags, acting), '  ')}" for group in groups]
    return "\n\n".join((*([usage] if wanted == "all" else []), *sections, dedent(_JSON_TIP)))


def _overview(catalogue: Catalogue, acting: frozenset[str]) -> Iterable[str]:
    yield "Config Groups:"
    width = max(len(group.title) for group in catalogue.groups) + 2
    for group in catalogue.groups:
        act = sum(flag.dest in acting for flag in group.flags)
        yield f"  {group.title:<{width}}{act} of {len(group.flags)} flags have an effect here"
    yield ""


def _lines(flags: Iterable[Flag], acting: frozenset[str]) -> str:
    return "\n".join(
        _line(flag, acts=flag.dest in acting) for flag in sorted(flags, key=lambda flag: flag.names)
    )


def _line(flag: Flag, *, acts: bool) -> str:
    names = ", ".join(flag.shown_names)
    value = _value(flag)
    start = f"{names} {value}" if value else names
    gap = " " * max(2, _COLUMN - len(start))
    default = '""' if flag.default == "" else flag.default
    about = f"\n{' ' * _HELP_INDENT}{flag.help}" if flag.help else ""
    return f"{start}{gap}default: {default}{'' if acts else f'; {_NO_EFFECT}'}{about}"


def _value(flag: Flag) -> str:
    if flag.kind in {"switch", "on"}:
        return ""
    value = flag.dest.upper()
    if flag.choices:
        value = "{" + ",".join(map(str, flag.choices)) + "}"
    match flag.nargs:
        case "+":
            return f"{value} [{value} ...]"
        case "?":
            return f"[{value}]"
        case None:
            return value
