"""The figures of a report: intervals in rows, and learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audience.benchmarks.report_blocks import Estimate
from audience.benchmarks.report_drawing import SHAPES, WIDTH, Drawing

ROW = 22.0
"""Height of a row in pixels."""

KINDS = {
    "rl": "RL",
    "cf": "collaborative filtering",
    "bandit": "bandit",
    "reference": "reference",
}
"""What each kind of agent is called."""

LINES = ("rl", "bandit", "violet", "rose", "soft")
"""Colours of learning curves; a sixth one is drawn in the first, dashed."""

_EM = 6.8
"""Width of a letter of 11 pixels, rounded up."""

_VALUES, _AXIS, _LEGEND = 50.0, 24.0, 20.0
"""Width of the column of figures, heights of the axis and of a legend, in pixels."""


@dataclass(frozen=True)
class Row:
    """A row of a figure: its name, the kind that its mark shows, and its figure."""

    name: str
    kind: str
    estimate: Estimate


@dataclass(frozen=True)
class Curve:
    """A learning curve.

    Attributes:
        name: At its end.
        steps: User-steps.
        mean: Over the seeds.
        seeds: Each seed's steps and values.
    """

    name: str
    steps: list[float]
    mean: list[float]
    seeds: list[tuple[list[float], list[float]]]


def intervals(title: str, rows: Sequence[Row], reference: float | None = None) -> Drawing:
    """Means with their intervals, one a row, on one axis.

    Args:
        title: Above the axis.
        rows: At least one.
        reference: Where a dashed line stands, such as the figure to be beaten.
    """
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    legend = _LEGEND if len(kinds) > 1 else 0
    drawing = Drawing(30 + ROW * len(rows) + _AXIS + legend, f"{title}: {_told(rows)}")
    drawing.words(0, 14, title, bold=True)
    left = min(max(len(row.name) for row in rows) * _EM + 10, 0.42 * WIDTH)
    axis = Axis(
        [end for row in rows for end in _ends(row.estimate)]
        + ([] if reference is None else [reference]),
        left + 6,
        WIDTH - _VALUES - 6,
    )
    bottom = 30 + ROW * len(rows)
    for tick in axis.ticks:
        drawing.line([(axis(tick), 26), (axis(tick), bottom)], "grid")
        drawing.words(axis(tick), bottom + 15, axis.text(tick), "soft", "middle", 10)
    if reference is not None:
        drawing.line([(axis(reference), 26), (axis(reference), bottom)], "soft", dashed=True)
    for place, row in enumerate(rows):
        y, role = 30 + ROW * (place + 0.5), row.kind if row.kind in SHAPES else "soft"
        low, mean, high = _ends(row.estimate)
        drawing.words(0, y + 4, _short(row.name, left), "ink")
        if high > low:
            drawing.line([(axis(low), y), (axis(high), y)], role, 2.5)
        drawing.mark(axis(mean), y, row.kind, f"{row.name}: {row.estimate}", role)
        drawing.words(WIDTH, y + 4, row.estimate.figure, role, "end", bold=row.kind == "rl")
    if legend:
        x = 4.0
        for kind in kinds:
            drawing.mark(x, bottom + _AXIS + 9, kind)
            drawing.words(x + 9, bottom + _AXIS + 13, KINDS[kind], "soft", size=10)
            x += 9 + len(KINDS[kind]) * 5.6 + 18
    return drawing


def curves(
    title: str, found: Sequence[Curve], reference: float | None = None, above: str = ""
) -> Drawing:
    """Learning curves against user-steps, thin lines for single seeds.

    Args:
        title: Above the axes.
        found: At least one curve.
        reference: Where a dashed line stands.
        above: What that line is called.
    """
    ends = ", ".join(f"{one.name} ends at {one.mean[-1]:.2f}" for one in found)
    drawing = Drawing(236, f"{title}: {ends}")
    drawing.words(0, 14, title, bold=True)
    values = [v for one in found for _, line in [([], one.mean), *one.seeds] for v in line]
    y_axis = Axis(values + ([] if reference is None else [reference]), 196, 34, 30)
    margin = max(len(one.name) for one in found) * _EM + 12
    left = max(len(y_axis.text(tick)) for tick in y_axis.ticks) * 6 + 6
    x_axis = Axis([0, *(step for one in found for step in one.steps)], left, WIDTH - margin)
    for tick in y_axis.ticks:
        drawing.line([(left, y_axis(tick)), (WIDTH - margin, y_axis(tick))], "grid")
        drawing.words(left - 5, y_axis(tick) + 4, y_axis.text(tick), "soft", "end", 10)
    for tick in x_axis.ticks:
        drawing.words(x_axis(tick), 212, _steps(tick), "soft", "middle", 10)
    drawing.words((left + WIDTH - margin) / 2, 228, "user-steps", "soft", "middle", 10)
    if reference is not None:
        y = y_axis(reference)
        drawing.line([(left, y), (WIDTH - margin, y)], "cf", 1.5, dashed=True)
        drawing.words(left + 2, y - 5, above, "cf", size=10)
    places = _apart([y_axis(one.mean[-1]) for one in found])
    for n, (one, place) in enumerate(zip(found, places, strict=True)):
        role, dashed = LINES[n % len(LINES)], n >= len(LINES)
        for steps, line in one.seeds if len(one.seeds) > 1 else []:
            points = [(x_axis(x), y_axis(y)) for x, y in zip(steps, line, strict=True)]
            drawing.line(points, role, 1, faint=True)
        points = [(x_axis(x), y_axis(y)) for x, y in zip(one.steps, one.mean, strict=True)]
        drawing.line(points, role, 2, dashed)
        drawing.mark(*points[-1], "rl", f"{one.name}: {one.mean[-1]:.2f}", role)
        drawing.words(WIDTH - margin + 8, place + 4, one.name, role)
    return drawing


class Axis:
    """Values to pixels between `start` and `end`, with round ticks about `apart` pixels apart."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, apart: float = 42
    ) -> None:
        low, high = min(values), max(values)
        pad = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
        if low != 0:
            low -= pad
        self.low, self.high, self.start, self.end = low, high + pad, start, end
        rough = (self.high - self.low) / max(abs(end - start) / apart, 2)
        scale = 10.0 ** math.floor(math.log10(rough))
        self._step = next(scale * n for n in (1, 2, 5, 10) if scale * n >= rough * 0.999)
        first = math.ceil(self.low / self._step - 1e-9)
        last = math.floor(self.high / self._step + 1e-9)
        self.ticks = [place * self._step for place in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        """Where a value stands, in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def text(self, tick: float) -> str:
        """A tick's label."""
        digits = max(0, -math.floor(math.log10(self._step) + 1e-9))
        return f"{tick:,.{digits}f}".replace("-", "−")


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    mean = estimate.mean
    low = mean if estimate.low is None else estimate.low
    return low, mean, mean if estimate.high is None else estimate.high


def _apart(places: list[float], least: float = 12.0) -> list[float]:
    """Heights of words moved down until no two overlap, kept above the axis."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for above, below in zip(order, order[1:], strict=False):
        moved[below] = max(moved[below], moved[above] + least)
    over = max(0.0, max(moved) - 196)
    return [place - over for place in moved]


def _steps(steps: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if steps >= unit:
            return f"{steps / unit:g}{name}"
    return f"{steps:g}"


def _short(name: str, width: float) -> str:
    most = int(width / _EM)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _told(rows: Sequence[Row]) -> str:
    return "; ".join(f"{row.name} {row.estimate}" for row in rows)
