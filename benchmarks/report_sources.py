"""What lies beside results.json: cards of the users, and learning curves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from audience.benchmarks.files import read_json
from audience.benchmarks.report_figures import Curve

CURVES = {
    "evaluation/return": "In the simulator, validation users",
    "evaluation/inner_judge_return": "In the inner judge's world",
    "evaluation/replay_return": "In replay of real validation users",
}
"""What trainings log of their evaluations, and what it is called."""


def cards_of(directory: Path) -> dict[str, dict[str, Any]]:
    """By seed, the card of its users."""
    found = {
        seed.name.removeprefix("seed-"): read_json(seed / "users" / "card.json")
        for seed in _seeds(directory)
    }
    return {seed: card for seed, card in found.items() if card}


def curves_of(directory: Path, agents: Iterable[str]) -> dict[str, list[Curve]]:
    """By tag of CURVES, a learning curve of each agent that logged it.

    Seeds are averaged at the steps of the first; the others' values are read off their lines.
    """
    logged: dict[str, dict[str, list[tuple[list[float], list[float]]]]] = {}
    for agent in agents:
        for seed in _seeds(directory):
            for tag, points in _scalars(seed / agent).items():
                line = ([float(step) for step in points], list(points.values()))
                logged.setdefault(tag, {}).setdefault(agent, []).append(line)
    return {
        tag: [_mean(name, lines) for name, lines in logged[tag].items()]
        for tag in CURVES
        if tag in logged
    }


def _mean(name: str, lines: list[tuple[list[float], list[float]]]) -> Curve:
    steps = lines[0][0]
    mean = np.mean([np.interp(steps, *line) for line in lines], axis=0)
    return Curve(name, steps, mean.tolist(), lines)


def _scalars(directory: Path) -> dict[str, dict[int, float]]:
    """By tag, values by step; a resumed run's later word on a step counts."""
    if not any(directory.glob("events.out.tfevents.*")):
        return {}
    # Imported here, for it takes a second.
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    # Of pictures and projections, none is kept.
    kept = dict.fromkeys(("images", "audio", "histograms", "distributions", "tensors"), 1)
    events = EventAccumulator(str(directory), size_guidance={**kept, "scalars": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"]) & set(CURVES)
    found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags}
    return {tag: dict(sorted(points.items())) for tag, points in found.items()}


def _seeds(directory: Path) -> list[Path]:
    """Directories of the seeds, in their order."""
    found = [path for path in directory.glob("seed-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))
