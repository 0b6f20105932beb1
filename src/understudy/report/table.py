"""The comparison as a table of plain text, for a terminal, a pipe or a log.

Colour and weight are the console's to decide: rich drops both where the output is no terminal.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from understudy.fleet.summary import Comparison, RunSummary
from understudy.report.answers import interruption, number_of_runs
from understudy.report.formats import NO_BREAK, printable
from understudy.report.rows import Row, Section, table_sections

_PLAIN_WIDTH = 80
_INDENT = "  "
_GAP = 2
_LONGEST_NAME = 24
"""From this width on a policy's name is folded rather than its column widened."""


def comparison_table(comparison: Comparison) -> str:
    """Return the table as plain text of at most 80 columns, each line ended by a newline.

    As many policies as fit stand side by side; further ones follow in tables of their own.
    """
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=_PLAIN_WIDTH, color_system=None, force_terminal=False, force_jupyter=False
    )
    print_comparison(comparison, console)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table, as many policies side by side as the console is wide, and then the notes."""
    runs = comparison.runs
    title = f"{printable(comparison.trace)}: {number_of_runs(runs)}"
    console.print(Text(title), highlight=False)
    interrupted = interruption(comparison)
    if interrupted:
        console.print(Text(printable(interrupted), style="bold"), highlight=False)
    sections = [_plain(section) for section in table_sections(runs)]
    label_width = max(cell_len(row.label) for section in sections for row in section.rows)
    widths = [_column_width(run, place, sections) for place, run in enumerate(runs)]
    for side_by_side in _side_by_side(widths, console.width - label_width):
        console.print()
        console.print(_table(runs, sections, side_by_side), highlight=False)
    if comparison.notes:
        console.print()
        console.print(_notes(comparison.notes), highlight=False)


def _plain(section: Section) -> Section:
    """Return the section with its labels indented and its blanks as a terminal knows them."""
    rows = (
        Row(_INDENT + printable(row.label), tuple(cell.replace(NO_BREAK, " ") for cell in row.cells))
        for row in section.rows
    )
    return replace(section, rows=tuple(rows))


def _column_width(run: RunSummary, place: int, sections: Sequence[Section]) -> int:
    cells = (cell_len(row.cells[place]) for section in sections for row in section.rows)
    return max(*cells, min(cell_len(printable(run.policy)), _LONGEST_NAME))


def _side_by_side(widths: Sequence[int], room: int) -> Iterator[slice]:
    """Yield which columns share a table, one at least."""
    start, used = 0, 0
    for place, width in enumerate(widths):
        if place > start and used + _GAP + width > room:
            yield slice(start, place)
            start, used = place, 0
        used += _GAP + width
    yield slice(start, len(widths))


def _table(runs: Sequence[RunSummary], sections: Sequence[Section], shown: slice) -> Table:
    table = Table(box=None, padding=(0, 0, 0, _GAP), pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for run in runs[shown]:
        table.add_column(
            Text(printable(run.policy)), max_width=_LONGEST_NAME, justify="right", overflow="fold"
        )
    for section in sections:
        table.add_row(Text(section.title, style="bold"))
        for row in section.rows:
            table.add_row(row.label, *(Text(cell) for cell in row.cells[shown]))
    return table


def _notes(notes: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for note in notes:
        table.add_row("*", Text(printable(note)))
    return table
