"""The program audience-train."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from audience.agents.training import TrainSettings, train
from audience.reward_models.users import load_users


def main(arguments: list[str] | None = None) -> None:
    """Train an agent in a fitted user model; see `audience-train --help`."""
    try:
        settings = tyro.cli(TrainSettings, args=arguments, prog="audience-train")
        out = train(load_users(settings.users), settings)
    except ValueError as error:  # a broken rule, in words; anything else deserves its traceback
        sys.exit(f"audience-train: {error}")
    _show(out)


def _show(out: Path) -> None:
    run = json.loads((out / "training.json").read_text())
    final = run["final"]["simulator"]
    table = Table(title=f"{run['algo']}, {run['steps']:,} user-steps, validation users")
    for heading in ("return", "95 %", "session length", "like rate", "coverage", "steps/s"):
        table.add_column(heading, justify="right")
    returns = final["return"]
    table.add_row(
        f"{returns['mean']:.2f}",
        f"{returns['low']:.2f}…{returns['high']:.2f}",
        f"{final['session_length']:.1f}",
        f"{final['like_rate']:.2f}",
        f"{final['coverage']:.2f}",
        f"{run['steps_per_second']:,.0f}",
    )
    console = Console()
    console.print(table)
    console.print(f"Written to {out}; curves: tensorboard --logdir {out}", soft_wrap=True)


if __name__ == "__main__":
    main()
