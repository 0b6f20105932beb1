"""The table: every figure is the comparison's own, in the terminal as in the HTML, and it fits."""

import io
import re
from collections.abc import Callable
from operator import attrgetter

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tests.report.comparisons import comparisons, sample
from tests.report.markup import Page

from understudy.fleet.summary import Comparison, Distribution, RunSummary
from understudy.report import comparison_html, comparison_table, print_comparison
from understudy.report.formats import MISSING

UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "%": 0.01}

LATENCIES: dict[str, Callable[[RunSummary], Distribution]] = {
    "TTFT": lambda run: run.ttft,
    "TPOT": lambda run: run.tpot,
    "ITL": lambda run: run.itl,
    "E2E": lambda run: run.e2e,
    "queue wait": lambda run: run.queue,
    "TTFT of hits": lambda run: run.ttft_hits,
    "TTFT of misses": lambda run: run.ttft_misses,
}


def latency(name: str, measure: str) -> Callable[[RunSummary], float | None]:
    """Return what reads one measure of one latency from a run."""
    attribute = attrgetter(measure)
    return lambda run: attribute(LATENCIES[name](run))


FIGURES: dict[str, Callable[[RunSummary], float | None]] = {
    "requests": lambda run: run.requests,
    "finished": lambda run: run.finished,
    "refused, too long": lambda run: run.refused.prompt_longer_than_context,
    "longest prompt, tokens": lambda run: run.refused.longest_prompt_tokens,
    "unfinished": lambda run: run.unfinished,
    "duration": lambda run: run.duration_seconds,
    "hit rate, tokens": lambda run: run.hit_rate_tokens if run.prompt_tokens else None,
    "hit rate, requests": lambda run: run.hit_rate_requests if run.requests else None,
    "prompt tokens": lambda run: run.prompt_tokens,
    "cached tokens, true": lambda run: run.cached_tokens,
    "cached tokens, believed": lambda run: run.believed_cached_tokens,
    "KV use, mean": lambda run: run.kv_usage_mean,
    "KV use, peak": lambda run: run.kv_usage_peak,
    "preemptions": lambda run: run.preemptions,
    "evicted blocks": lambda run: run.evicted_blocks,
    "requests with a hit": lambda run: run.ttft_hits.count,
    "requests without": lambda run: run.ttft_misses.count,
    "requests/s": lambda run: run.requests_per_second,
    "output tokens/s": lambda run: run.output_tokens_per_second,
    "all tokens/s": lambda run: run.total_tokens_per_second,
    "workers": lambda run: len(run.workers),
    **{
        f"{name} {measure}": latency(name, measure)
        for name in LATENCIES
        for measure in ("mean", "p50", "p90", "p99")
    },
}

LISTS: dict[str, Callable[[RunSummary], list[float]]] = {
    "requests of each": lambda run: [worker.requests for worker in run.workers],
    "requests per worker": lambda run: ends([worker.requests for worker in run.workers]),
    "prompt tokens per worker": lambda run: ends([worker.prompt_tokens for worker in run.workers]),
    "output tokens per worker": lambda run: ends([worker.output_tokens for worker in run.workers]),
    "busy per worker": lambda run: ends([worker.busy_fraction for worker in run.workers]),
    "matched blocks, p50": lambda run: block_range(run, 50),
    "matched blocks, p90": lambda run: block_range(run, 90),
}

NOT_ALWAYS_THERE = {"longest prompt, tokens"}


def ends(values: list[float]) -> list[float]:
    """Return the least and the greatest value."""
    return [min(values), max(values)] if values else []


def block_range(run: RunSummary, percent: int) -> list[float]:
    """Return the least and the greatest block count of the bin in which the quantile's request lies."""
    each = [[found.low, found.high - 1] for found in run.matched_blocks for _ in range(found.count)]
    return [float(end) for end in each[max(-(-percent * len(each) // 100) - 1, 0)]] if each else []


def html_rows(comparison: Comparison) -> dict[str, list[str]]:
    """Return the cells of the report's table of all figures by their label."""
    document = comparison_html(comparison)
    tables = document[document.index('<div class="tables"') : document.index("<details>")]
    return {row[0]: [cell.replace("\u00a0", " ") for cell in row[1:]] for row in Page(tables).rows if row[0]}


def terminal_rows(comparison: Comparison) -> dict[str, list[str]]:
    """Return the cells of the terminal's table by their label."""
    lines = [line.strip() for line in printed(comparison, width=400).splitlines() if re.match(r"  \S", line)]
    return {label: cells for label, *cells in (re.split(r"  +", line) for line in lines)}


def printed(comparison: Comparison, width: int) -> str:
    """Return what a file of that width gets."""
    buffer = io.StringIO()
    print_comparison(comparison, Console(file=buffer, width=width))
    return buffer.getvalue()


def says(cell: str, value: float | None) -> bool:
    """Return whether the cell gives the value, to half a unit of its last digit."""
    if value is None:
        return cell == MISSING
    found = re.fullmatch(r"([\d,]+)(\.\d+)? ?(s|ms|%|)", cell)
    assert found is not None, cell
    whole, decimals, unit = found[1], found[2] or "", found[3]
    last_digit = 10.0 ** -max(len(decimals) - 1, 0)
    read = float(whole.replace(",", "") + decimals)
    return abs(read - value / UNITS[unit]) <= last_digit / 2 * (1 + 1e-6)


@given(comparison=comparisons(st.sampled_from(["a", "b"])))
@settings(deadline=None, max_examples=40)
def test_every_figure_in_the_table_is_the_comparisons(comparison: Comparison) -> None:
    """Read back with its unit, each cell of each row equals the summary's value as far as its digits go."""
    rows = html_rows(comparison)
    assert set(FIGURES) | set(LISTS) == set(rows) | NOT_ALWAYS_THERE
    for label, cells in rows.items():
        for cell, run in zip(cells, comparison.runs, strict=True):
            if label in FIGURES:
                assert says(cell, FIGURES[label](run)), (label, cell)
            else:
                parts = [] if cell == MISSING else re.split(r" \.\. |-| (?=\d)", cell)
                values = LISTS[label](run)
                assert parts or not values
                ends_read_the_same = len(parts) == 1 and len(values) == 2
                for part, value in zip(parts * 2 if ends_read_the_same else parts, values, strict=True):
                    assert says(part, value), (label, cell)


@given(comparison=comparisons(st.sampled_from(["a", "b"])))
@settings(deadline=None, max_examples=40)
def test_the_terminal_and_the_page_show_the_same_figures(comparison: Comparison) -> None:
    """Row by row and cell by cell, the two tables agree."""
    assert html_rows(comparison) == terminal_rows(comparison)


@given(comparison=comparisons(st.text(max_size=60), most_runs=5))
@settings(deadline=None, max_examples=60)
def test_the_plain_table_fits_a_terminal_of_80_columns(comparison: Comparison) -> None:
    """No line is wider than 80 cells, whatever the names; no escape sequence and no blank at a line's end."""
    table = comparison_table(comparison)
    assert table.endswith("\n")
    for line in table.split("\n"):
        assert cell_len(line) <= 80
        assert line == line.rstrip()
        assert all(char.isprintable() for char in line)


def test_up_to_three_policies_stand_side_by_side() -> None:
    """Three names share a line; the fourth comes with a table of its own, with the same rows."""
    three, four = ["first", "second", "third"], ["first", "second", "third", "fourth"]
    assert [line.split() for line in comparison_table(sample(three)).splitlines() if "first" in line] == [
        three
    ]
    heads = [
        line.split()
        for line in comparison_table(sample(four)).splitlines()
        if re.search("first|fourth", line)
    ]
    assert heads == [three, ["fourth"]]
    assert comparison_table(sample(four)).count("TTFT p99") == 2


def test_a_wider_console_gets_more_policies_side_by_side() -> None:
    """The table follows the width of the console that it is printed on."""
    names = [f"policy{number}" for number in range(6)]
    assert [names] == [
        line.split() for line in printed(sample(names), width=160).splitlines() if "policy0" in line
    ]


def test_only_a_terminal_gets_escape_sequences() -> None:
    """Into a file the table is plain; on a terminal the headings stand out."""
    buffer = io.StringIO()
    print_comparison(
        sample(["one"]), Console(file=buffer, width=80, force_terminal=True, color_system="standard")
    )
    assert "\x1b[" in buffer.getvalue()
    assert "\x1b[" not in printed(sample(["one"]), width=80)


@given(comparison=comparisons())
@settings(deadline=None, max_examples=60)
def test_the_table_never_shows_a_stray_value(comparison: Comparison) -> None:
    """Where there is no value stands a dash, never nan, inf or None."""
    assert re.search(r"(?i:\bnan\b|\binf\b)|\bNone\b", comparison_table(comparison)) is None


def test_notes_and_an_interruption_are_told() -> None:
    """A reader of the table gets every note and learns that the run was stopped early."""
    table = comparison_table(sample(["one"], text="mind this"))
    assert table.endswith("* mind this\n")
    assert "Interrupted" in table
