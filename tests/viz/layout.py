"""The texts of a picture as boxes, to be held apart."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from attrs import frozen

from eulerc.viz.text import text_width

SVG = "{http://www.w3.org/2000/svg}"


@frozen
class TextBox:
    """A line of text with the room it takes."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: TextBox) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def text_boxes(root: ET.Element) -> list[TextBox]:
    """Every text of a picture that its own texts do not hide."""
    return [_box(element) for element in root.iter(f"{SVG}text")]


def _box(element: ET.Element) -> TextBox:
    x, y, size = (float(element.attrib[name]) for name in ("x", "y", "font-size"))
    text = "".join([element.text or "", *(child.tail or "" for child in element)])
    width = text_width(text, size, bold=element.get("font-weight") == "bold")
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
    return TextBox(text, left, y - 0.75 * size, left + width, y + 0.22 * size)


def rectangles(root: ET.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of every rectangle with a size in pixels."""
    found = []
    for element in root.iter(f"{SVG}rect"):
        if element.get("width") != "100%":
            x, y, width, height = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found
