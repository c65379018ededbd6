"""The figures of speed.json in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

HEADINGS = (
    "series",
    "view",
    "users",
    "slate",
    "items",
    "history",
    "steps/s",
    "bare/s",
    "ratio",
    "choosers",
    "heads",
    "heads, choosers",
    "kB/user",
    "choose",
    "end",
)
TEXTS = 2
"""Leading columns that are words."""


def cells(row: Mapping[str, Any]) -> list[str]:
    """The table's cells of one row."""
    held = row["bytes_per_user"]
    return [
        row["series"],
        row["view"],
        *(f"{row[name]:,}" for name in ("users", "slate", "items", "history")),
        _number(row["user_steps_per_second"], ",.0f"),
        _number(row["forward_only_per_second"], ",.0f"),
        _number(row["efficiency"], ".2f"),
        _number(row.get("efficiency_choosers"), ".2f"),
        _number(row.get("efficiency_heads"), ".2f"),
        _number(row.get("efficiency_heads_choosers"), ".2f"),
        _number(None if held is None else held / 1000, ",.1f"),
        _number(row.get("choosing"), ".0%"),
        _number(row.get("resets"), ".0%"),
    ]


def sentence(part: str, entry: Mapping[str, Any]) -> str:
    """One entry of `rows`, `latency`, `training` or `fits` on one line."""
    if part == "latency":
        return (
            f"predict of {entry['agent']} for one user, {entry['items']:,} items: "
            f"{entry['p50_ms']:.2f} ms (p50), {entry['p99_ms']:.2f} ms (p99)"
        )
    if part == "training":
        said = f"PPO, {entry['items']:,} items, {entry['candidates']:,} candidates"
        if entry["step_ms"] is None:
            return f"{said}: {entry['note']}"
        return (
            f"{said}: {entry['step_ms']:.1f} ms a step of {entry['users']:,} users with its share "
            f"of the updates ({entry['user_steps_per_second']:,.0f} user-steps/s); recommends from "
            f"the whole catalogue in {entry['p50_ms']:.2f} ms (p50), {entry['p99_ms']:.2f} ms (p99)"
        )
    if part == "fits":
        said = f"a {entry['preset']} fit to {entry['events']:,} events of {entry['users']:,} users"
        seconds = entry["seconds"]
        return f"{said}: {entry['note'] if seconds is None else f'{seconds:.1f} s'}"
    said = (
        f"{entry['series']}: {entry['view']}, {entry['users']:,} users, slate {entry['slate']}, "
        f"{entry['items']:,} items, history {entry['history']}"
    )
    if entry["user_steps_per_second"] is None:
        return f"{said}: {entry['note']}"
    said += f": {entry['user_steps_per_second']:,.0f} user-steps/s"
    if entry["efficiency"] is not None:
        said += f", {entry['efficiency']:.2f} of the bare pass"
    return f"{said}, {entry['bytes_per_user'] / 1000:,.1f} kB a user"


def sentences(results: Mapping[str, Any]) -> list[str]:
    """What stands below the table."""
    computer = results["machine"]
    said = [
        f"{results['users']} users; {computer['cpu']}, {computer['cores']} cores, "
        f"{computer['threads']} thread(s), {computer['device']}, "
        f"{results['settings']['dtype']}. Steps of users; bare: a pass of "
        f"one query and one event of every user through the cached layers of the tower alone; "
        f"ratio: steps/bare; choosers: the same where the pass has only as many rows as choose "
        f"something; heads: ratios where the pass computes the network's heads, too; choose, end: "
        f"user-steps with a choice, and that end an episode."
    ]
    parts = ("latency", "training", "fits")
    said += [sentence(part, entry) for part in parts for entry in results[part]]
    said += [sentence("rows", entry) for entry in results["rows"] if entry.get("note")]
    return said


def markdown(results: Mapping[str, Any]) -> str:
    """The table in Markdown, with the figures below."""
    rules = tuple("---" if place < TEXTS else "---:" for place in range(len(HEADINGS)))
    lines = [HEADINGS, rules, *(cells(row) for row in results["rows"])]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n" + "\n\n".join(sentences(results)) + "\n"


def screen(results: Mapping[str, Any]) -> Table:
    """The table for a terminal."""
    table = Table(
        title="User-steps per second",
        box=box.SIMPLE_HEAD,
        caption="\n".join(sentences(results)),
        caption_justify="left",
    )
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if place < TEXTS else "right")
    for row in results["rows"]:
        table.add_row(*cells(row))
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
