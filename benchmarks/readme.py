"""The README's table: what a results.json says, between two marks in a Markdown file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audience.benchmarks.files import read_json, write_text
from audience.benchmarks.report_trust import command_of
from audience.benchmarks.results import headings, rows, said
from audience.benchmarks.world_names import REPLAY, SIMULATOR

BEGIN = "<!-- made by audience-bench table: do not edit by hand -->"
END = "<!-- end of what audience-bench table makes -->"

LEFT_OUT = ("length", "gini", "calibration")
"""Columns of `table.md` that a README has no room for."""

WIDTH = 100


@dataclass(frozen=True)
class TableSettings:
    """Print the table of a comparison, its verdict and what stands behind them, as Markdown."""

    results: str = "benchmarks/results.json"
    """The results.json of a comparison; by default the one that this README shows."""

    into: str | None = None
    """Markdown file to write it into, between the marks that say so, as README.md."""

    def __post_init__(self) -> None:
        if self.into is not None and not Path(self.into).is_file():
            raise ValueError(f"into must be a Markdown file that exists, got {self.into!r}")


def table(settings: TableSettings) -> str:
    """The Markdown, also put into `settings.into`.

    Raises:
        ValueError: There are no results, or the file lacks the marks.
    """
    results = read_json(Path(settings.results))
    if results is None or not results.get("agents"):
        raise ValueError(
            f"results must be the results.json of a comparison, got {settings.results!r}"
        )
    made = block(results)
    if settings.into is not None:
        file = Path(settings.into)
        write_text(file, put(file.read_text(), made))
    return made


def put(text: str, made: str) -> str:
    """The text, with what stands between the marks replaced.

    Raises:
        ValueError: It has not both marks, once each, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"into must hold the line {BEGIN!r} and after it {END!r}, once each")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def block(results: Mapping[str, Any]) -> str:
    """Command, table, verdict, and the figures that say how far to believe them."""
    quote = textwrap.indent(_filled(said(results), WIDTH - 2), "> ")
    parts = [_filled(_command(results)), "\n".join(_table(results)), quote]
    return "\n\n".join([*parts, _filled(_about(results))])


def _command(results: Mapping[str, Any]) -> str:
    """What gave it: what is as in the preset is not named."""
    from audience.benchmarks.settings import CompareSettings

    own, log = results["settings"], results["log"]["name"]
    plain = CompareSettings(preset=own["preset"])
    if any(own.get(key) != value for key, value in plain.deciding().items()):
        return f"What `{command_of(results)}` says:"
    command = f"audience-bench compare --log {log} --preset {own['preset']}"
    if own["seeds"] != plain.budget.seeds:
        command += f" --seeds {own['seeds']}"
    if own["agents"] != plain.names:
        command += f" --agents {','.join(own['agents'])}"
    return f"What `{command}` says:"


def _table(results: Mapping[str, Any]) -> list[str]:
    titles = headings(results)
    kept = [at for at, title in enumerate(titles) if title not in LEFT_OUT]
    ruler = ["---" if at < 2 else "---:" for at in range(len(kept))]
    lines = [[row[at] for at in kept] for row in [titles, *rows(results)]]
    return [f"| {' | '.join(line)} |" for line in [lines[0], ruler, *lines[1:]]]


def _about(results: Mapping[str, Any]) -> str:
    """What the figures are of, and whether the worlds agree."""
    seeds, met = results["settings"]["seeds"], results.get("test_users") or {}
    users = f", {met[SIMULATOR]:,} test users" if SIMULATOR in met else ""
    users += f", {met[REPLAY]:,} of them in replay" if REPLAY in met else ""
    parts = [
        f"Returns of unseen users' sessions with 95 % intervals; {seeds} "
        f"seed{'s' * (seeds != 1)}{users}. Kind `reference` is no contender. *Gap to CF*: how much "
        f"more the simulator promises of an agent than the judges keep, beside the best CF agent."
    ]
    if judges := results.get("judges"):
        fit = [name for name, judge in judges.items() if judge["competent"]]
        parts.append(f"Competent judges: {', '.join(fit) or 'none'}.")
    same = (results.get("rank_correlation") or {}).get("simulator_replay_same_masks")
    if same and same["kendall"]:
        found = same["kendall"]
        parts.append(
            f"Under the same masks, tau-b of the simulator and replay over {same['agents']} "
            f"policies is {found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]."
        )
    return " ".join(parts)


def _filled(text: str, width: int = WIDTH) -> str:
    """Lines of this width; a percent sign stays with its number."""
    held = text.replace(" %", "\0%")
    filled = textwrap.fill(held, width, break_on_hyphens=False, break_long_words=False)
    return filled.replace("\0", " ")
