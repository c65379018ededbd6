"""The price of variety in a report: return against diversity, by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audience.benchmarks.report_blocks import (
    Block,
    Cell,
    Estimate,
    Picture,
    Pictures,
    Section,
    Table,
)
from audience.benchmarks.report_drawing import WIDTH, Drawing
from audience.benchmarks.report_figures import Axis
from audience.benchmarks.report_reading import Results, cell, estimate, return_of, world_name


def front_section(results: Results) -> Section | None:
    """What the two champions earn when their recommendations are made less alike."""
    rows = [row for row in results.get("diversity_front") or [] if isinstance(row, Mapping)]
    worlds = [key for key in (rows[0] if rows else {}) if return_of(rows[0], key)]
    if not worlds:
        return None
    sides = list(dict.fromkeys(str(row["agent"]) for row in rows))
    pictures = []
    for world in worlds:
        lines = {s: [row for row in rows if row["agent"] == s and _at(row, world)] for s in sides}
        lines = {side: held for side, held in lines.items() if held}
        if not lines:
            continue
        drawing = _drawn(f"Return and diversity, {world_name(world)}", world, lines)
        pictures.append(Picture(f"diversity_{world}", _CAPTION, drawing))
    blocks: list[Block] = [
        f"{' and '.join(sides)}, re-ranked: of an agent's hundred best items those fall that are "
        "near to what the user met last, by a weight. The agents stay as they were trained.",
        *([Pictures(pictures)] if pictures else []),
    ]
    for world in worlds:
        table: list[list[Cell]] = [
            [
                str(row["agent"]),
                f"{row['weight']:g}",
                cell(estimate(row[world].get("diversity"))),
                cell(estimate(row[world].get("return"))),
                cell(estimate(row[world].get("difference"), signed=True)),
            ]
            for row in rows
            if world in row
        ]
        headings = ["agent", "weight", "diversity", f"return, {world_name(world)}", "to weight 0"]
        blocks.append(Table(headings, table, names=2))
    return Section("What variety costs", blocks)


_CAPTION = (
    "Each line is an agent from its own ranking (weight 0, ringed in its colour) to the largest "
    "weight; vertical: 95 % intervals."
)


def _at(row: Mapping[str, Any], world: str) -> tuple[float, Estimate] | None:
    """Diversity and return of a row in a world, None where one is not known."""
    held = row.get(world) or {}
    found = estimate(held.get("return"))
    return None if found is None or held.get("diversity") is None else (held["diversity"], found)


def _drawn(title: str, world: str, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> Drawing:
    points = {
        name: [point for row in rows if (point := _at(row, world))] for name, rows in lines.items()
    }
    found = [point for line in points.values() for point in line]
    ends = [end for _, e in found for end in (e.low or e.mean, e.mean, e.high or e.mean)]
    told = "; ".join(
        f"{name}: " + ", ".join(f"{x:.2f} {e}" for x, e in line) for name, line in points.items()
    )
    drawing = Drawing(256, f"{title}: {told}")
    drawing.words(0, 14, title, bold=True)
    up = Axis(ends, 196, 30, 30)
    left = max(len(up.text(tick)) for tick in up.ticks) * 6 + 6
    along = Axis([x for x, _ in found], left, WIDTH - 8)
    for tick in up.ticks:
        drawing.line([(left, up(tick)), (WIDTH - 8, up(tick))], "grid")
        drawing.words(left - 5, up(tick) + 4, up.text(tick), "soft", "end", 10)
    for tick in along.ticks:
        drawing.words(along(tick), 212, along.text(tick), "soft", "middle", 10)
    drawing.words((left + WIDTH - 8) / 2, 228, "diversity", "soft", "middle", 10)
    x = left
    for name, rows in lines.items():
        kind = str(rows[0].get("kind", ""))
        line = [(along(x), e) for x, e in points[name]]
        drawing.line([(at, up(e.mean)) for at, e in line], kind, 2)
        for (at, e), row in zip(line, rows, strict=True):
            if e.low is not None and e.high is not None:
                drawing.line([(at, up(e.low)), (at, up(e.high))], kind, 1, faint=True)
            drawing.mark(at, up(e.mean), kind, f"{name}, weight {row['weight']:g}: {e}")
        drawing.mark(*(line[0][0], up(line[0][1].mean)), "reference", role=kind)
        drawing.mark(x + 4, 246, kind)
        drawing.words(x + 13, 250, name, "soft", size=10)
        x += 13 + 6 * len(name) + 18
    return drawing
