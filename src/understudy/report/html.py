"""The report: one HTML file that needs no script, no network and no other file, on a screen and on paper.

All text from outside passes through `escaped`; everything else is written here and in the modules that draw.
"""

from collections.abc import Iterable, Sequence
from importlib import resources

from understudy.fleet.summary import Comparison, RunSummary, WorkerSummary
from understudy.report.answers import answers, interruption, number_of_runs
from understudy.report.bar_figures import load_figures, match_figures
from understudy.report.charts import escaped
from understudy.report.figure import Figure
from understudy.report.formats import MISSING, count, percent
from understudy.report.latency_figures import latency_figures
from understudy.report.rows import Section, table_sections
from understudy.report.time_figures import time_figures

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
"""

_LABEL_REM, _COLUMN_REM = 11, 7
"""How wide a table of so many policies wants to be: as many stand side by side as there is room for."""


def comparison_html(comparison: Comparison) -> str:
    """Return the whole report as one HTML5 document; equal comparisons give equal text."""
    runs = comparison.runs
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    title = f"{runs[0].policy if len(runs) == 1 else number_of_runs(runs)} on {comparison.trace}"
    parts = [
        _HEAD,
        f"<title>Understudy: {escaped(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n",
        _header(comparison, title),
        "<main>\n",
        _figures("Latency", latency_figures(runs)),
        _figures("Over time", time_figures(runs)),
        _figures("Load", load_figures(runs)),
        _figures("Prefix matches", match_figures(runs)),
        _tables(runs),
        _settings(comparison),
        _notes(comparison.notes),
        "</main>\n",
        _footer(comparison),
        "</body>\n</html>\n",
    ]
    return "".join(parts)


def _header(comparison: Comparison, title: str) -> str:
    items = "".join(
        f"<li><strong>{escaped(run.policy)}</strong>: {escaped(answer)}.</li>\n"
        for run, answer in zip(comparison.runs, answers(comparison), strict=True)
    )
    interrupted = interruption(comparison)
    stopped = f'<p class="warning">{escaped(interrupted)}</p>\n' if interrupted else ""
    to_notes = ""
    if comparison.notes:
        number = len(comparison.notes)
        which = "note" if number == 1 else f"{number} notes"
        to_notes = f'<p><a href="#notes">Mind the {which} below.</a></p>\n'
    return (
        f'<header>\n<p class="brand">Understudy</p>\n<h1>{escaped(title)}</h1>\n{stopped}'
        f'<ul class="answers">\n{items}</ul>\n{to_notes}</header>\n'
    )


def _figures(title: str, figures: Iterable[Figure]) -> str:
    drawn = "".join(
        f'<figure class="wide">{_figure(each)}</figure>\n'
        if each.wide
        else f"<figure>{_figure(each)}</figure>\n"
        for each in figures
    )
    return f'<section>\n<h2>{title}</h2>\n<div class="figures">\n{drawn}</div>\n</section>\n'


def _figure(figure: Figure) -> str:
    caption = figure.caption
    return f'<figcaption><h3>{caption.title}</h3></figcaption>{figure.body}<p class="how">{caption.how}</p>'


def _tables(runs: Sequence[RunSummary]) -> str:
    tables = "".join(_section_table(section, runs) for section in table_sections(runs))
    width = f"{_LABEL_REM + _COLUMN_REM * len(runs)}rem"
    return (
        f'<section>\n<h2>All figures</h2>\n<div class="tables" style="columns: {width}">\n{tables}</div>\n'
        f"{_workers(runs)}</section>\n"
    )


def _section_table(section: Section, runs: Sequence[RunSummary]) -> str:
    policies = (escaped(run.policy) for run in runs)
    rows = ((escaped(row.label), row.cells) for row in section.rows)
    table = _table(section.title, ("", *policies), rows)
    return f'<div class="table">{table}<p class="how">{section.how}</p></div>\n'


def _table(caption: str, heads: Sequence[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Return a table that scrolls sideways by itself where the page is narrow; all text is escaped already."""
    corner, *others = heads
    columns = f'<th scope="col">{corner}</th>' if corner else "<td></td>"
    columns += "".join(f'<th scope="col">{head}</th>' for head in others)
    body = "".join(
        f'<tr><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
        for label, cells in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0">'
        f"<table><caption>{caption}</caption>\n"
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _workers(runs: Sequence[RunSummary]) -> str:
    heads = (
        "worker",
        "requests",
        "prompt tokens",
        "cached tokens",
        "output tokens",
        "busy",
        "KV use, mean",
        "KV use, peak",
        "preemptions",
        "evicted blocks",
    )
    tables = "".join(
        _table(escaped(run.policy), heads, ((str(each.worker), _worker_cells(each)) for each in run.workers))
        for run in runs
    )
    return f"<details>\n<summary>Every worker</summary>\n{tables}</details>\n"


def _worker_cells(worker: WorkerSummary) -> Iterable[str]:
    return (
        count(worker.requests),
        count(worker.prompt_tokens),
        count(worker.cached_tokens),
        count(worker.output_tokens),
        percent(worker.busy_fraction),
        percent(worker.kv_usage_mean),
        percent(worker.kv_usage_peak),
        count(worker.preemptions),
        count(worker.evicted_blocks),
    )


def _settings(comparison: Comparison) -> str:
    if not comparison.settings:
        return ""
    rows = [(escaped(name), (escaped(_setting(value)),)) for name, value in comparison.settings.items()]
    table = _table("What was chosen", ("setting", "value"), rows)
    return f'<section id="settings">\n<h2>Settings</h2>\n{table}</section>\n'


def _setting(value: object) -> str:
    """Return a setting as it would be typed."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escaped(note)}</li>\n" for note in notes)
    return f'<section id="notes">\n<h2>Notes</h2>\n<ul>\n{items}</ul>\n</section>\n'


def _footer(comparison: Comparison) -> str:
    facts = [
        ("Understudy", comparison.understudy_version),
        ("vLLM's decisions of", comparison.vllm_version or MISSING),
        ("Trace", comparison.trace),
        ("Trace SHA-256", comparison.trace_sha256 or MISSING),
    ]
    if "seed" in comparison.settings:
        facts.append(("Seed", _setting(comparison.settings["seed"])))
    items = "".join(f"<dt>{name}</dt><dd>{escaped(value)}</dd>\n" for name, value in facts)
    return (
        f"<footer>\n<h2>To repeat this</h2>\n<pre><code>{escaped(comparison.command)}</code></pre>\n"
        f"<dl>\n{items}</dl>\n</footer>\n"
    )
