"""The program audience-train."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from audience.agents.training import seeds_of, train
from audience.agents.training_settings import SCRIPTED, TrainSettings
from audience.reward_models.mixed import mixed
from audience.reward_models.users import UserModel, load_users


def main(arguments: list[str] | None = None) -> None:
    """Train an agent in a fitted user model; see `audience-train --help`."""
    try:
        settings = tyro.cli(TrainSettings, args=arguments, prog="audience-train")
        users = _users(settings)
        worlds = _worlds(settings)
        runs = [train(users, one, **worlds) for one in seeds_of(settings)]
    except ValueError as error:  # a broken rule, in words; anything else deserves its traceback
        sys.exit(f"audience-train: {error}")
    _show(runs, settings, users)


def _users(settings: TrainSettings) -> UserModel:
    """The users that are trained in."""
    if settings.users == SCRIPTED and not Path(SCRIPTED).exists():
        from audience.envs.scripted import scripted_users

        return scripted_users()
    partners = [name.strip() for name in (settings.partners or "").split(",") if name.strip()]
    return mixed([load_users(name) for name in (settings.users, *partners)])


def _worlds(settings: TrainSettings) -> dict[str, Any]:
    """The other worlds that a training is watched in."""
    found: dict[str, Any] = {}
    if settings.inner_judge is not None:
        found["inner_judge"] = load_users(settings.inner_judge)
    if settings.replay is not None:
        from audience.reward_models.replay import ReplayUsers

        found["replay"] = ReplayUsers.of(settings.replay, **_split(Path(settings.users)))
    return found


def _split(directory: Path) -> dict[str, Any]:
    """The half of the log and the seed that users were fitted with."""
    path = directory / "settings.json"
    if not path.exists():
        return {}
    fitted = json.loads(path.read_text())
    fitted = fitted.get("settings", fitted)
    return {name: fitted[name] for name in ("half", "seed") if name in fitted}


def _show(runs: list[Path], settings: TrainSettings, users: UserModel) -> None:
    steps = json.loads((runs[0] / "training.json").read_text())["steps"]
    table = Table(title=f"{settings.algo}, {steps:,} user-steps, validation users")
    for heading in ("seed", "world", "return", "95 %", "length", "likes", "coverage", "steps/s"):
        table.add_column(heading, justify="right")
    for run in runs:
        told = json.loads((run / "training.json").read_text())
        for world, final in told["final"].items():
            returns = final["return"]
            table.add_row(
                str(told["settings"]["seed"]),
                world.replace("_", " "),
                f"{returns['mean']:.2f}",
                f"{returns['low']:.2f}…{returns['high']:.2f}",
                f"{final['session_length']:.1f}",
                f"{final['like_rate']:.2f}",
                f"{final['coverage']:.2f}",
                f"{told['steps_per_second']:,.0f}",
            )
    console = Console()
    console.print(table)
    if settings.users == SCRIPTED:
        console.print(_against_the_best(runs, settings, users), soft_wrap=True)
    out = settings.out
    console.print(f"Written to {out}; curves: tensorboard --logdir {out}", soft_wrap=True)


def _against_the_best(runs: list[Path], settings: TrainSettings, users: Any) -> str:
    """How near trained agents come to the best policy of scripted users."""
    from audience.agents.known_best import KnownBest

    if settings.slate_size > 1:
        return "The best policy of scripted users is known for slates of one item only."
    known = KnownBest.of(users, settings)
    return known.sentence([dataclasses.replace(settings, out=str(run)) for run in runs])


if __name__ == "__main__":
    main()
