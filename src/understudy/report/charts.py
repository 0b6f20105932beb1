"""Inline SVG: lines over two axes, upright bars, lying bars. Colours and dashes come from style.css.

A style number stands for a policy: it picks a colour and a dash pattern. Knows nothing of results.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from understudy.report.axes import Axis
from understudy.report.formats import printable

_COLOURS = 9
_DASHES = 7
_LABEL_ROOM = 5.5
"""Roughly how wide a character of an axis mark is, in units of the drawing."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a drawing says to those who cannot see it; `key` is unique on the page."""

    key: str
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Line:
    """Points in the order in which they are joined."""

    style: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Size:
    """A drawing and the margins around its plot, in units of the drawing."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


LARGE = Size(width=440, height=280, left=56, right=16, top=12, bottom=46)
SMALL = Size(width=200, height=110, left=38, right=10, top=8, bottom=22)
PANEL = Size(width=440, height=150, left=56, right=28, top=12, bottom=46)

_ROW_HEIGHT = 26
_ROWS_LEFT = 76
_ROWS_RIGHT = 84


def escaped(text: str) -> str:
    """Return text from outside as it may stand in an element or a quoted attribute, of HTML and of SVG."""
    return escape(printable(text), quote=True)


def style_classes(style: int) -> str:
    """Return the classes of a style number; the 64th is the first to repeat colour and dashes together."""
    return f"c{style % _COLOURS} d{(style + style // _COLOURS) % _DASHES}"


def swatch(style: int) -> str:
    """Return a short line as it is drawn for a style number, for a legend."""
    line = f'<path class="line {style_classes(style)}" d="M1 6H35"/>'
    return f'<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true">{line}</svg>'


def line_chart(words: Words, lines: Iterable[Line], x: Axis, y: Axis, size: Size = LARGE) -> str:
    """Return the lines over their axes; a lone point shows as a dot."""
    return _svg(
        words,
        size.width,
        size.height,
        _frame(size, x, y) + "".join(_line(each, x, y, size) for each in lines),
    )


def bar_chart(words: Words, style: int, bars: Sequence[tuple[str, float]], x_label: str, y: Axis) -> str:
    """Return upright bars of one style, each over its own label where there is room for one."""
    size = PANEL
    step = (size.width - size.left - size.right) / max(len(bars), 1)
    widest = max((len(label) for label, _ in bars), default=0)
    every = max(-(-int((widest + 1) * _LABEL_ROOM) // max(int(step), 1)), 1)
    outline = []
    labels = []
    for index, (label, value) in enumerate(bars):
        left, foot, top = size.left + (index + 0.1) * step, _n(_y(size, y, 0)), _n(_y(size, y, value))
        outline.append(f"M{_n(left)} {foot}V{top}h{_n(step * 0.8)}V{foot}z")
        if index % every == 0:
            labels.append(_x_mark(size, size.left + (index + 0.5) * step, label))
    plot = f'<path class="bar {style_classes(style)}" d="{"".join(outline)}"/>'
    return _svg(
        words, size.width, size.height, _y_marks(size, y) + "".join(labels) + _x_label(size, x_label) + plot
    )


def lying_bars(words: Words, style: int, bars: Sequence[tuple[str, float, str]], x: Axis) -> str:
    """Return bars from left to right, each with its label before and its value in words behind."""
    size = Size(LARGE.width, len(bars) * _ROW_HEIGHT + 50, _ROWS_LEFT, _ROWS_RIGHT, 4, 46)
    parts = [_x_marks(size, x), _x_label(size, x.label)]
    for index, (label, value, text) in enumerate(bars):
        top = size.top + index * _ROW_HEIGHT
        end = _x(size, x, value)
        kind = "bar" if index else "bar hollow"
        shape = f"M{size.left} {top + 4}H{_n(end)}v{_ROW_HEIGHT - 8}H{size.left}z"
        parts += [
            f'<path class="{kind} {style_classes(style)}" d="{shape}"/>',
            f'<text class="end" x="{size.left - 6}" y="{top + 17}">{escaped(label)}</text>',
            f'<text class="value" x="{_n(end + 6)}" y="{top + 17}">{escaped(text)}</text>',
        ]
    return _svg(words, size.width, size.height, "".join(parts))


def _svg(words: Words, width: int, height: int, content: str) -> str:
    key = words.key
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escaped(words.title)}</title>'
        f'<desc id="{key}-d">{escaped(words.description)}</desc>'
        f"{content}</svg>"
    )


def _frame(size: Size, x: Axis, y: Axis) -> str:
    return _y_marks(size, y) + _x_marks(size, x) + (_x_label(size, x.label) if x.label else "")


def _line(line: Line, x: Axis, y: Axis, size: Size) -> str:
    places: list[str] = []
    for x_value, y_value in line.points:
        place = f"{_n(_x(size, x, x_value))},{_n(_y(size, y, y_value))}"
        if not places or places[-1] != place:
            places.append(place)
    if not places:
        return ""
    if len(places) == 1:
        across, down = places[0].split(",")
        return f'<circle class="dot {style_classes(line.style)}" cx="{across}" cy="{down}" r="3"/>'
    return f'<polyline class="line {style_classes(line.style)}" points="{" ".join(places)}"/>'


def _y_marks(size: Size, y: Axis) -> str:
    right = size.width - size.right
    parts = []
    for value, text in y.marks:
        down = _y(size, y, value)
        parts.append(f'<path class="grid" d="M{size.left} {_n(down)}H{right}"/>')
        parts.append(f'<text class="end" x="{size.left - 6}" y="{_n(down + 4)}">{escaped(text)}</text>')
    if y.label:
        middle = (size.top + size.height - size.bottom) / 2
        turn = f"translate(13 {_n(middle)}) rotate(-90)"
        parts.append(f'<text class="mid" transform="{turn}">{escaped(y.label)}</text>')
    return "".join(parts)


def _x_marks(size: Size, x: Axis) -> str:
    bottom = size.height - size.bottom
    parts = []
    for value, text in x.marks:
        across = _x(size, x, value)
        parts.append(f'<path class="grid" d="M{_n(across)} {size.top}V{bottom + 4}"/>')
        parts.append(_x_mark(size, across, text))
    return "".join(parts)


def _x_mark(size: Size, across: float, text: str) -> str:
    return f'<text class="mid" x="{_n(across)}" y="{size.height - size.bottom + 17}">{escaped(text)}</text>'


def _x_label(size: Size, label: str) -> str:
    middle = (size.left + size.width - size.right) / 2
    return f'<text class="mid" x="{_n(middle)}" y="{size.height - 8}">{escaped(label)}</text>'


def _x(size: Size, axis: Axis, value: float) -> float:
    return size.left + axis.fraction(value) * (size.width - size.left - size.right)


def _y(size: Size, axis: Axis, value: float) -> float:
    return size.height - size.bottom - axis.fraction(value) * (size.height - size.bottom - size.top)


def _n(value: float) -> str:
    """Return a coordinate to a tenth, without a needless zero."""
    return f"{value:.1f}".removesuffix(".0")
