"""SVG, written by hand: a few shapes, numbers with one decimal, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from eulerc.viz.text import as_xml, text_width

FONT = "Helvetica, Arial, &quot;Liberation Sans&quot;, sans-serif"
INK = "#1f2933"
SOFT_INK = "#52606d"
LINE = "#7b8794"
PAPER = "#ffffff"


def shown(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


@frozen
class Canvas:
    """Elements in the order they are painted."""

    parts: list[str] = field(factory=list)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        *,
        stroke: str | None = None,
        radius: float = 0,
    ) -> None:
        edge = f' stroke="{stroke}"' if stroke is not None else ""
        corner = f' rx="{shown(radius)}"' if radius else ""
        place = f'x="{shown(x)}" y="{shown(y)}" width="{shown(width)}" height="{shown(height)}"'
        self.parts.append(f'<rect {place}{corner} fill="{fill}"{edge}/>')

    def circle(self, x: float, y: float, radius: float, fill: str, stroke: str) -> None:
        place = f'cx="{shown(x)}" cy="{shown(y)}" r="{shown(radius)}"'
        self.parts.append(f'<circle {place} fill="{fill}" stroke="{stroke}" stroke-width="1.3"/>')

    def path(
        self, points: Sequence[tuple[float, float]], *, stroke: str = LINE, arrow: bool = False, dashed: bool = False
    ) -> None:
        """A line through points, with an arrow at its end."""
        course = " ".join(f"{'M' if index == 0 else 'L'}{shown(x)} {shown(y)}" for index, (x, y) in enumerate(points))
        extra = ' marker-end="url(#arrow)"' if arrow else ""
        extra += ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<path d="{course}" fill="none" stroke="{stroke}" stroke-width="1.3"{extra}/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        fill: str = INK,
        bold: bool = False,
        anchor: str = "start",
        note: str | None = None,
    ) -> float:
        """A line of text on the baseline `y`; `note` is what a pointer over it shows. Returns its width."""
        extra = ' font-weight="bold"' if bold else ""
        extra += f' text-anchor="{anchor}"' if anchor != "start" else ""
        title = f"<title>{as_xml(note)}</title>" if note is not None and note != text else ""
        place = f'x="{shown(x)}" y="{shown(y)}" font-size="{shown(size)}"'
        self.parts.append(f'<text {place} fill="{fill}"{extra}>{title}{as_xml(text)}</text>')
        return text_width(text, size, bold=bold)

    def open_group(self, title: str) -> None:
        self.parts.append(f"<g><title>{as_xml(title)}</title>")

    def close_group(self) -> None:
        self.parts.append("</g>")

    def document(self, width: float, height: float, title: str, description: str) -> str:
        """The whole file: the elements on a background of their own, so that dark pages do not swallow them."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {shown(width)} {shown(height)}" '
            f'width="{shown(width)}" height="{shown(height)}" role="img" aria-labelledby="title desc" '
            f'font-family="{FONT}">',
            f'<title id="title">{as_xml(title)}</title>',
            f'<desc id="desc">{as_xml(description)}</desc>',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0.5L8 4L0 7.5z" fill="{LINE}"/></marker></defs>',
            f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
        )
        return "\n".join((*head, *self.parts, "</svg>")) + "\n"
