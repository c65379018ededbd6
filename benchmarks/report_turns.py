"""Where the answer turns: with the assumptions, and with whom is recommended to."""

from __future__ import annotations

from collections.abc import Mapping

from audience.benchmarks.report_blocks import (
    Block,
    Cell,
    Estimate,
    Folded,
    Picture,
    Pictures,
    Section,
    Table,
)
from audience.benchmarks.report_figures import Row, intervals
from audience.benchmarks.report_reading import Results, cell, leaves, ranked, world_name

GRID_COLOURS = "Blue circles: RL is ahead; orange squares: CF is; grey: not to be told."


def assumptions_section(results: Results) -> Section | None:
    """Where the verdict turns with what the log cannot teach."""
    grid = [row for row in results.get("assumption_grid") or [] if isinstance(row, Mapping)]
    if len(grid) < 2:  # with one setting, the log has taught all
        return None
    flat = [dict(leaves(row)) for row in grid]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    gaps = [key for key in columns if "difference" in key.split(".")]
    settings = [key for key in columns if key not in gaps]
    named = ", ".join(key.replace("_", " ") for key in settings)
    blocks: list[Block] = [
        "What the log cannot teach, set otherwise in the judges. The agents stay those that were "
        "made under the comparison's own assumptions: they are evaluated anew, not trained anew."
    ]
    pictures = []
    for gap in gaps:
        told = [
            (", ".join(str(row.get(key, "–")) for key in settings), row.get(gap)) for row in flat
        ]
        rows = [Row(name, _side(gap), gap) for name, gap in told if isinstance(gap, Estimate)]
        if not rows:
            continue
        last = gap.split(".")[-1]
        world = "all worlds" if last == "difference" else world_name(last)
        ahead, behind = (sum(row.kind == kind for row in rows) for kind in ("rl", "cf"))
        blocks.append(
            f"{world}: of {len(rows)} settings RL is ahead in {ahead}, behind in {behind}, and not "
            f"to be told from CF in {len(rows) - ahead - behind} (by the 95 % interval)."
        )
        drawing = intervals(f"RL minus CF, {world}", rows, reference=0)
        pictures.append(Picture(f"assumptions_{gap}", f"Rows: {named}. {GRID_COLOURS}", drawing))
    if pictures:
        blocks.append(Pictures(pictures))
    order = [*settings, *gaps]
    cells = [[cell(row.get(column)) for column in order] for row in flat]
    headings = [column.replace(".", " ").replace("_", " ") for column in order]
    blocks.append(Folded("All settings", [Table(headings, cells, names=len(settings))]))
    return Section("Where the answer turns with the assumptions", blocks)


def segments_section(results: Results) -> Section | None:
    """Returns by kind of user or item: `agents.<name>.segments.<segment>.<world>`."""
    agents = results.get("agents") or {}
    names = [name for name in ranked(results) if agents[name].get("segments")]
    if not names:
        return None
    found = {name: dict(leaves(agents[name]["segments"])) for name in names}
    columns = list(dict.fromkeys(key for held in found.values() for key in held))
    parts: dict[str, list[str]] = {}
    for column in columns:
        parts.setdefault(column.split(".")[0], []).append(column)
    blocks: list[Block] = ["Return by segment, with 95 % intervals where they are known."]
    for segment, held in parts.items():
        called = [_segment(column, segment) for column in held]
        rows: list[list[Cell]] = [[n, *(cell(found[n].get(c)) for c in held)] for n in names]
        blocks.append(Table([segment.replace("_", " "), *called], rows))
    return Section("For whom", blocks)


def _side(gap: Estimate) -> str:
    """Whose a difference is: RL's or CF's, "" where its interval holds 0."""
    if gap.low is not None and gap.low > 0:
        return "rl"
    return "cf" if gap.high is not None and gap.high < 0 else ""


def _segment(column: str, segment: str) -> str:
    world = column.removeprefix(f"{segment}.").removesuffix(".return")
    return world_name(world) if world != segment else "return"
