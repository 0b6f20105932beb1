"""What all figures share: a caption, a legend, a panel for each policy, a sentence where nothing is to draw."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from understudy.fleet.summary import RunSummary
from understudy.report.charts import escaped, style_classes, swatch


@dataclass(frozen=True, slots=True)
class Caption:
    """What a figure shows and how it is computed, in our own words; `key` is unique on the page."""

    key: str
    title: str
    how: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A captioned drawing, as markup; a `wide` one needs the whole page."""

    caption: Caption
    body: str
    wide: bool = False


def legend(runs: Sequence[RunSummary]) -> str:
    """Return each policy's name beside a sample of its line."""
    items = (f"<li>{swatch(style)} {escaped(run.policy)}</li>" for style, run in enumerate(runs))
    return f'<ul class="legend">{"".join(items)}</ul>'


def panels(runs: Sequence[RunSummary], draw: Callable[[int, RunSummary], str]) -> str:
    """Return a drawing for each policy, below its name; `draw` gets the policy's style number."""
    return "".join(_panel(style, run, draw(style, run)) for style, run in enumerate(runs))


def nothing(caption: Caption) -> Figure:
    """Return the figure of no values at all."""
    return Figure(caption, '<p class="empty">Nothing to draw: no policy has any values here.</p>')


def of_each(runs: Sequence[RunSummary], said: Iterable[str]) -> str:
    """Return a description: what is to be said of each policy, after its name."""
    return "; ".join(f"{run.policy}: {text}" for run, text in zip(runs, said, strict=True))


def _panel(style: int, run: RunSummary, drawing: str) -> str:
    key = f'<span class="key {style_classes(style)}"></span>'
    return f'<div class="panel"><p>{key} {escaped(run.policy)}</p>{drawing}</div>'
