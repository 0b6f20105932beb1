"""The comparison as a table of plain text, for a terminal, a pipe or a log.

Colour and weight are the console's to decide: rich drops both where the output is no terminal.
"""

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from understudy.fleet.summary import Comparison, RunSummary
from understudy.report.formats import NO_BREAK, plural, printable
from understudy.report.rows import Section, table_sections

INTERRUPTED = (
    "Interrupted: the run was stopped early, and the figures cover only what had happened until then."
)

_PLAIN_WIDTH = 80
_INDENT = "  "
_GAP = 2
_COLUMN_WIDTH = 16


def comparison_table(comparison: Comparison) -> str:
    """Return the table as plain text of at most 80 columns, each line ended by a newline.

    Three policies stand side by side; further ones follow in tables of their own.
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
    console.print(
        Text(f"{printable(comparison.trace)}: {plural(len(runs), 'policy', 'policies')}"), highlight=False
    )
    if comparison.interrupted:
        console.print(Text(INTERRUPTED, style="bold"), highlight=False)
    sections = table_sections(runs)
    label_width = max(len(_INDENT + row.label) for section in sections for row in section.rows)
    side_by_side = max((console.width - label_width) // (_COLUMN_WIDTH + _GAP), 1)
    for start in range(0, len(runs), side_by_side):
        table = _table(runs, sections, slice(start, start + side_by_side), label_width)
        console.print()
        console.print(table, highlight=False)
    if comparison.notes:
        console.print()
        console.print(_notes(comparison.notes), highlight=False)


def _table(runs: Sequence[RunSummary], sections: Sequence[Section], shown: slice, label_width: int) -> Table:
    table = Table(box=None, padding=(0, 0, 0, _GAP), pad_edge=False, header_style="bold")
    table.add_column("", width=label_width, no_wrap=True)
    for run in runs[shown]:
        table.add_column(Text(printable(run.policy)), width=_COLUMN_WIDTH, justify="right", overflow="fold")
    for section in sections:
        table.add_row(Text(section.title, style="bold"))
        for row in section.rows:
            table.add_row(
                _INDENT + row.label, *(Text(cell.replace(NO_BREAK, " ")) for cell in row.cells[shown])
            )
    return table


def _notes(notes: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for note in notes:
        table.add_row("*", Text(printable(note)))
    return table
