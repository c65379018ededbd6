"""Small drawings of lines, marks and words, written as SVG for a page and as PNG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import MappingProxyType

WIDTH = 360
"""Width of every drawing in pixels: what a phone shows without shrinking its words, and what two
columns on a desk enlarge a little."""

MARGIN = 10
"""Pixels of paper around a drawing that stands alone."""

COLOURS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paper": ("#ffffff", "#16181d"),
        "ink": ("#1c1e21", "#e9eaec"),
        "soft": ("#5c6168", "#a3a9b2"),
        "grid": ("#e2e4e8", "#343840"),
        "rl": ("#0072b2", "#56b4e9"),
        "cf": ("#c2540a", "#f0a04b"),
        "bandit": ("#007a5a", "#3cc99b"),
        "reference": ("#5c6168", "#a3a9b2"),
        "violet": ("#7a4fb5", "#b99cf0"),
        "rose": ("#b3386f", "#f08cb5"),
    }
)
"""What is drawn in which colour, on light and on dark paper: hues that the colour-blind tell
apart (after Okabe and Ito), each darkened or lightened until words in it can be read."""

SHAPES = {"rl": "circle", "cf": "square", "bandit": "diamond", "reference": "ring"}
"""Marks by kind of agent, so that colour is never the only difference."""

PNG_DPI = 200
_PIXELS = 100
"""Pixels of a drawing to an inch of its PNG."""


@dataclass(frozen=True)
class _Line:
    points: list[tuple[float, float]]
    role: str
    width: float
    dashed: bool
    faint: bool


@dataclass(frozen=True)
class _Mark:
    x: float
    y: float
    kind: str
    role: str
    tip: str


@dataclass(frozen=True)
class _Words:
    x: float
    y: float
    words: str
    role: str
    anchor: str
    size: float
    bold: bool


@dataclass
class Drawing:
    """Marks on paper of WIDTH x `height` pixels, y downwards, in roles that COLOURS name.

    Attributes:
        height: In pixels.
        label: What it shows, for those who hear the page.
    """

    height: float
    label: str
    parts: list[_Line | _Mark | _Words] = field(default_factory=list)

    def line(
        self,
        points: list[tuple[float, float]],
        role: str,
        width: float = 1.0,
        dashed: bool = False,
        faint: bool = False,
    ) -> None:
        """Join points by lines."""
        self.parts.append(_Line(points, role, width, dashed, faint))

    def mark(self, x: float, y: float, kind: str, tip: str = "", role: str | None = None) -> None:
        """The mark of a kind of agent; a browser shows `tip` beside the pointer."""
        self.parts.append(_Mark(x, y, kind, role or kind, tip))

    def words(
        self,
        x: float,
        y: float,
        words: str,
        role: str = "ink",
        anchor: str = "start",
        size: float = 11,
        bold: bool = False,
    ) -> None:
        """Words whose baseline is at y; `anchor` (start, middle, end) is what x is of them."""
        self.parts.append(_Words(x, y, words, role, anchor, size, bold))

    def svg(self, standalone: bool = False) -> str:
        """SVG that takes its colours from the page, or with its own where it stands alone."""
        inside = "\n".join(_svg(part) for part in self.parts)
        label = f'role="img" aria-label="{clean(self.label)}"'
        if not standalone:
            box = f"0 0 {WIDTH} {self.height:g}"
            return f'<svg class="drawing" viewBox="{box}" {label}>\n{inside}\n</svg>'
        wide, tall = WIDTH + 2 * MARGIN, self.height + 2 * MARGIN
        head = f'viewBox="-{MARGIN} -{MARGIN} {wide} {tall:g}" {label}'
        corner = f'x="-{MARGIN}" y="-{MARGIN}"'
        paper = f'<rect class="f-paper" {corner} width="{wide}" height="{tall:g}"/>'
        size = f'width="{2 * wide}" height="{2 * tall:g}"'
        space = 'xmlns="http://www.w3.org/2000/svg"'
        return f"<svg {space} {size} {head}>\n<style>{STYLE}</style>\n{paper}\n{inside}\n</svg>\n"

    def png(self, path: Path) -> None:
        """Write the drawing on light paper."""
        # Not by pyplot, which keeps every figure; imported here, for it takes a second.
        from matplotlib.figure import Figure

        right, bottom = WIDTH + MARGIN, self.height + MARGIN
        size = (right + MARGIN) / _PIXELS, (bottom + MARGIN) / _PIXELS
        figure = Figure(figsize=size, dpi=PNG_DPI)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-MARGIN, right), ylim=(bottom, -MARGIN))
        axes.axis("off")
        point = 72 / _PIXELS  # of a pixel
        for part in self.parts:
            colour = COLOURS[part.role][0]
            if isinstance(part, _Line):
                axes.plot(
                    [x for x, _ in part.points],
                    [y for _, y in part.points],
                    color=colour,
                    linewidth=part.width * point,
                    linestyle="--" if part.dashed else "-",
                    alpha=FAINT if part.faint else 1,
                )
            elif isinstance(part, _Mark):
                hollow = SHAPES.get(part.kind) == "ring"
                axes.plot(
                    [part.x],
                    [part.y],
                    marker={"square": "s", "diamond": "D"}.get(SHAPES.get(part.kind, ""), "o"),
                    markersize=7 * point,
                    markerfacecolor=COLOURS["paper"][0] if hollow else colour,
                    markeredgecolor=colour,
                )
            else:
                axes.text(
                    part.x,
                    part.y,
                    part.words,
                    color=colour,
                    fontsize=part.size * point,
                    fontweight="bold" if part.bold else "normal",
                    ha={"start": "left", "middle": "center", "end": "right"}[part.anchor],
                    va="baseline",
                    parse_math=False,
                )
        figure.savefig(path, facecolor=COLOURS["paper"][0])


FAINT = 0.35


def style(dark: bool) -> str:
    """Rules of the colours: `s-` classes draw, `f-` classes fill."""
    return "".join(
        f".s-{role}{{stroke:{pair[dark]}}}.f-{role}{{fill:{pair[dark]}}}"
        for role, pair in COLOURS.items()
    )


STYLE = (
    f"text{{font-family:system-ui,sans-serif}}{style(dark=False)}"
    f"@media (prefers-color-scheme:dark){{{style(dark=True)}}}"
)
"""Rules of every drawing; a page has them once."""


def clean(text: object) -> str:
    """Text for HTML or XML: escaped, without the control characters that XML forbids."""
    return escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", str(text)))


def _svg(part: _Line | _Mark | _Words) -> str:
    if isinstance(part, _Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in part.points)
        dash = ' stroke-dasharray="4 3"' if part.dashed else ""
        faint = f' opacity="{FAINT}"' if part.faint else ""
        return (
            f'<polyline class="s-{part.role}" fill="none" stroke-width="{part.width:g}" '
            f'stroke-linejoin="round"{dash}{faint} points="{points}"/>'
        )
    if isinstance(part, _Words):
        bold = ' font-weight="600"' if part.bold else ""
        return (
            f'<text class="f-{part.role}" x="{part.x:.1f}" y="{part.y:.1f}" '
            f'font-size="{part.size:g}" text-anchor="{part.anchor}"{bold}>'
            f"{clean(part.words)}</text>"
        )
    x, y, shape = part.x, part.y, SHAPES.get(part.kind, "circle")
    fill = "paper" if shape == "ring" else part.role
    paint = f'class="s-{part.role} f-{fill}" stroke-width="1.5"'
    tip = f"<title>{clean(part.tip)}</title>" if part.tip else ""
    if shape == "square":
        corner = f'x="{x - 3.2:.1f}" y="{y - 3.2:.1f}"'
        return f'<rect {paint} {corner} width="6.4" height="6.4">{tip}</rect>'
    if shape == "diamond":
        ways = ((0, -1), (1, 0), (0, 1), (-1, 0))
        corners = " ".join(f"{x + 4.6 * right:.1f},{y + 4.6 * down:.1f}" for right, down in ways)
        return f'<polygon {paint} points="{corners}">{tip}</polygon>'
    return f'<circle {paint} cx="{x:.1f}" cy="{y:.1f}" r="3.6">{tip}</circle>'
