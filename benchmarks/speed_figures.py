"""Figures of speed.json: the cost of a step against the catalogue and against the history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audience.reward_models.card_figures import DPI, MODEL, OTHER, PANEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {
    "catalogue": ("items", "items of the catalogue"),
    "history": ("history", "events of the history"),
}
"""Series that are drawn: the key of a row that varies, and what it is called."""


def write_figures(directory: Path, results: Mapping[str, Any]) -> None:
    """Write each figure as png and svg, and all with the scalars as TensorBoard files.

    Args:
        directory: `catalogue.*` and `history.*` lie in it, the TensorBoard files in `summary`,
            in place of older ones.
        results: As in speed.json.
    """
    from torch.utils.tensorboard import SummaryWriter

    summary = directory / "summary"
    for old in summary.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(summary)) as writer:
        for name, figure in figures(results).items():
            for kind in ("png", "svg"):
                figure.savefig(directory / f"{name}.{kind}")
            writer.add_figure(f"speed/{name}", figure, 0)
        for row in results["rows"]:
            rate, series = row["user_steps_per_second"], row["series"]
            if rate is not None:
                step = row[AXES[series][0] if series in AXES else "users"]
                tag = f"user_steps_per_second/{series}_{row['view']}_slate_{row['slate']}"
                writer.add_scalar(tag, rate, step)


def figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Cost of a user-step in microseconds, by series, of those that have figures."""
    found = {}
    for series, (key, name) in AXES.items():
        rows = [
            row
            for row in results["rows"]
            if row["series"] == series and row["user_steps_per_second"] is not None
        ]
        if rows:
            found[series] = _figure(rows, key, name, results["machine"])
    return found


def _figure(rows: list[dict[str, Any]], key: str, name: str, computer: Mapping[str, Any]) -> Figure:
    # Not by pyplot, which keeps every figure; imported here, for it takes a second.
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    first, x = rows[0], [row[key] for row in rows]
    fixed = f"{first['users']:,} users, slate {first['slate']}"
    if first["candidates"] is not None:
        fixed += f", {first['candidates']:,} candidates"
    where = f"{computer['device']}, {computer['threads']} thread(s)"
    figure.suptitle(f"What a step costs by {name}\n{fixed}; {where}", fontsize=11)
    for rate, label, colour, style in (
        ("user_steps_per_second", "environment", MODEL, "o-"),
        ("forward_only_per_second", "bare forward pass", OTHER, "s--"),
    ):
        cost = [1e6 / row[rate] for row in rows]
        axes.plot(x, cost, style, color=colour, label=label)
    axes.set(xscale="log", ylim=(0, None), xlabel=name, ylabel="microseconds a user-step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure
