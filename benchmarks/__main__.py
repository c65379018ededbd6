"""The program audience-bench."""

from __future__ import annotations

import sys

import tyro
from rich.console import Console

from audience.benchmarks.fidelity_settings import FidelitySettings
from audience.benchmarks.readme import TableSettings, table
from audience.benchmarks.settings import CompareSettings
from audience.benchmarks.speed_settings import SpeedSettings

TABLE_WIDTH = 132
"""Columns of the table where the output is no terminal."""


def main(arguments: list[str] | None = None) -> None:
    """Run a benchmark; see `audience-bench --help`."""
    try:
        settings: CompareSettings | FidelitySettings | SpeedSettings | TableSettings
        settings = tyro.extras.subcommand_cli_from_dict(
            {
                "compare": CompareSettings,
                "fidelity": FidelitySettings,
                "speed": SpeedSettings,
                "table": TableSettings,
            },
            prog="audience-bench",
            description="Benchmarks of recommenders in simulated users.",
            args=arguments,
        )
        if isinstance(settings, FidelitySettings):
            _fidelity(settings)
        elif isinstance(settings, SpeedSettings):
            _speed(settings)
        elif isinstance(settings, TableSettings):
            print(table(settings))
        else:
            _compare(settings)
    # A broken rule or a killed process, in words; anything else deserves its traceback.
    except (ValueError, ChildProcessError) as error:
        sys.exit(f"audience-bench: {error}")


def _compare(settings: CompareSettings) -> None:
    from audience.benchmarks.compare import compare
    from audience.benchmarks.results import screen

    results = compare(settings)
    console = _console()
    console.print(screen(results))
    console.print(
        f"Trust: {settings.out}/seed-0/users/card.md says how well the users predict real ones.\n"
        f"Figures: {settings.out}/results.json, table.md; curves: tensorboard --logdir "
        f"{settings.out}",
        soft_wrap=True,
    )


def _fidelity(settings: FidelitySettings) -> None:
    from audience.benchmarks.fidelity import fidelity, screen

    results = fidelity(settings)
    console = _console()
    console.print(screen(results))
    console.print(
        f"Figures: {settings.out}/fidelity.json, table.md; curves: tensorboard --logdir "
        f"{settings.out}",
        soft_wrap=True,
    )


def _speed(settings: SpeedSettings) -> None:
    from audience.benchmarks.speed import speed
    from audience.benchmarks.speed_table import screen

    results = speed(settings)
    console = _console()
    console.print(screen(results))
    console.print(
        f"Figures: {settings.out}/speed.json, table.md, catalogue.png, history.png (and .svg); "
        f"tensorboard --logdir {settings.out}",
        soft_wrap=True,
    )


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


if __name__ == "__main__":
    main()
