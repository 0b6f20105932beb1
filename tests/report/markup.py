"""Reading a report back: its tags, its text, its drawings and its tables."""

import re
from html.parser import HTMLParser
from typing import NamedTuple
from xml.etree.ElementTree import Element, fromstring

_VOID = {"meta"}


class Tag(NamedTuple):
    """An element's start: its name and its attributes in order."""

    name: str
    attributes: tuple[tuple[str, str | None], ...]


class Page(HTMLParser):
    """A parsed document: every start tag, every piece of text with the element around it, every table row."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[Tag] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and open it."""
        self.tags.append(Tag(tag, tuple(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.tags.append(Tag(tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, or note that it is another."""
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.unbalanced.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        """Note the text, and add it to its cell."""
        self.texts.append((self._open[-1] if self._open else "", data))
        if self._open and self._open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        """Note a comment, of which a report has none."""
        self.unbalanced.append(f"comment {data}")

    def attribute(self, name: str) -> list[str]:
        """Return every value of an attribute, in order."""
        return [value or "" for tag in self.tags for key, value in tag.attributes if key == name]


def drawings(document: str) -> list[Element]:
    """Return every inline SVG, parsed as the XML that it must be."""
    found = re.findall(r"<svg .*?</svg>", document, flags=re.DOTALL)
    return [fromstring(drawing) for drawing in found]  # noqa: S314 - written by the code under test


def drawing(document: str, key: str) -> Element:
    """Return the drawing whose title has this key."""
    return next(
        each for each in drawings(document) if (each.get("aria-labelledby") or "").startswith(f"{key}-t ")
    )


def polylines(element: Element) -> list[list[tuple[float, float]]]:
    """Return the points of every line in a drawing, in its own units."""
    return [
        [(float(x), float(y)) for x, y in (place.split(",") for place in (line.get("points") or "").split())]
        for line in element.iter("polyline")
    ]
