"""The table: every figure is the comparison's own, in the terminal as in the HTML, and it fits."""

import io
import re
from collections.abc import Callable
from operator import attrgetter

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tests.report.comparisons import REASONS, comparisons, sample
from tests.report.markup import Page

from understudy.fleet.summary import Comparison, Distribution, RunSummary
from understudy.report import comparison_html, comparison_table, print_comparison
from understudy.report.formats import MISSING
from understudy.report.rows import bin_label

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


LOADS = {
    "prompt tokens": "prompt_tokens",
    "output tokens": "output_tokens",
    "busy": "busy_fraction",
}


def latency(name: str, measure: str) -> Callable[[RunSummary], float | None]:
    """Return what reads one measure of one latency from a run."""
    attribute = attrgetter(measure)
    return lambda run: attribute(LATENCIES[name](run))


def load(attribute: str, choose: Callable[[list[float]], float]) -> Callable[[RunSummary], float | None]:
    """Return what reads the least or the most that any worker of a run had."""
    pick = attrgetter(attribute)

    def read(run: RunSummary) -> float | None:
        known = [value for worker in run.workers if (value := pick(worker)) is not None]
        return choose(known) if known else None

    return read


def requests_of(number: int) -> Callable[[RunSummary], float | None]:
    """Return what reads the requests of one worker of a run."""
    return lambda run: next((each.requests for each in run.workers if each.worker == number), None)


FIGURES: dict[str, Callable[[RunSummary], float | None]] = {
    "requests": lambda run: run.requests,
    "finished": lambda run: run.finished,
    "refused, too long": lambda run: run.refused.prompt_longer_than_context,
    "longest prompt, tokens": lambda run: run.refused.longest_prompt_tokens,
    "failed": lambda run: sum(run.failed.values()),
    "failed, http-503": lambda run: run.failed.get("http-503", 0),
    "failed, broken": lambda run: run.failed.get("broken", 0),
    "unfinished": lambda run: run.unfinished,
    "duration": lambda run: run.duration_seconds,
    "hit rate, tokens": lambda run: run.hit_rate_tokens if run.prompt_tokens else None,
    "hit rate, requests": lambda run: run.hit_rate_requests if run.prompt_tokens else None,
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
    **{f"requests, worker {number}": requests_of(number) for number in range(3)},
    **{
        f"{name}, {end}": load(attribute, choose)
        for name, attribute in LOADS.items()
        for end, choose in (("least", min), ("most", max))
    },
    **{
        f"{name} {measure}": latency(name, measure)
        for name in LATENCIES
        for measure in ("mean", "p50", "p90", "p99")
    },
}

RANGES: dict[str, Callable[[RunSummary], str]] = {
    "matched blocks, p50": lambda run: block_range(run, 50),
    "matched blocks, p90": lambda run: block_range(run, 90),
}

NOT_ALWAYS_THERE = {
    "longest prompt, tokens",
    *(f"failed, {reason}" for reason in REASONS),
    *(f"requests, worker {number}" for number in range(3)),
}


def block_range(run: RunSummary, percent: int) -> str:
    """Return the block counts of the bin in which the quantile's request lies."""
    each = [bin_label(found) for found in run.matched_blocks for _ in range(found.count)]
    return each[max(-(-percent * len(each) // 100) - 1, 0)] if each else MISSING


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


def heads(table: str) -> list[list[str]]:
    """Return the policies at the head of each table: what stands above its first section."""
    return [line.split() for line in re.findall(r"^(.*)\nRequests *$", table, flags=re.MULTILINE)]


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
    assert set(FIGURES) | set(RANGES) == set(rows) | NOT_ALWAYS_THERE
    for label, cells in rows.items():
        for cell, run in zip(cells, comparison.runs, strict=True):
            if label in FIGURES:
                assert says(cell, FIGURES[label](run)), (label, cell)
            else:
                assert cell == RANGES[label](run), (label, cell)


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


def test_many_workers_are_summed_up() -> None:
    """Of more than eight workers the table gives the least and the most requests, not a row for each."""
    for workers, each_has_a_row in [(8, True), (9, False)]:
        rows = terminal_rows(sample(["one"], workers=workers))
        assert (rows.get("requests, worker 7") == ["100,007"]) == each_has_a_row
        assert ((rows.get("requests, least"), rows.get("requests, most")) == (None, None)) == each_has_a_row
    assert (rows["requests, least"], rows["requests, most"]) == (["100,000"], ["100,008"])


def test_the_table_is_as_wide_as_its_names_need() -> None:
    """A usual name stays on one line, a very long one is folded, and no figure is ever broken."""
    names = ["x" * 100, "mypolicy.py:choose"]
    table = comparison_table(sample(names))
    assert re.search(r"^ .* mypolicy\.py:choose$", table, flags=re.MULTILINE)
    assert max(re.findall("x+", table), key=len) == "x" * 24
    assert table.count("90,000,000") == len(names)


def test_as_many_policies_as_fit_stand_side_by_side() -> None:
    """Four short names share a line; the fifth comes with a table of its own, with the same rows."""
    four, five = ["one", "two", "three", "four"], ["one", "two", "three", "four", "five"]
    assert heads(comparison_table(sample(four))) == [four]
    assert heads(comparison_table(sample(five))) == [four, ["five"]]
    assert comparison_table(sample(five)).count("TTFT p99") == 2


def test_a_wider_console_gets_more_policies_side_by_side() -> None:
    """The table follows the width of the console that it is printed on."""
    names = [f"policy{number}" for number in range(6)]
    assert heads(printed(sample(names), width=160)) == [names]


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
    assert "Interrupted: the run of one was stopped early." in table
