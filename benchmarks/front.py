"""What variety costs: the champions re-ranked with more and more weight on diversity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from audience.benchmarks.beyond import Known, beyond
from audience.benchmarks.paired import BySeed, difference, return_figures

WEIGHTS = (0.5, 1.0, 2.0, 4.0)
"""Of nearness in `DiversifiedAgent`. At 1, what is as near as can be falls by the whole shortlist;
two items of real catalogues differ by a tenth of that, so the agent's order counts up to 4 or so,
beyond which variety is all."""

ByWorld = Mapping[str, BySeed]
"""Sessions with test users, by world and seed."""


def front(
    name: str, kind: str, by_weight: Mapping[float, ByWorld], known: Mapping[int, Known]
) -> list[dict[str, Any]]:
    """An agent's rows of `diversity_front`.

    Args:
        name: Of the agent.
        kind: Its own.
        by_weight: By weight, 0 (the agent itself) among them, in every world.
        known: By seed.

    Returns:
        `agent`, `kind`, `weight`, and by world `return.{mean|low|high|...}`, `diversity` (mean over
        seeds) and `difference`, of the return to that with weight 0, in pairs (None there).
    """
    return [
        {
            "agent": name,
            "kind": kind,
            "weight": weight,
            **{
                world: {
                    "return": return_figures(by_seed),
                    "diversity": _diversity(by_seed, known),
                    "difference": difference(by_seed, by_weight[0][world]) if weight else None,
                }
                for world, by_seed in worlds.items()
            },
        }
        for weight, worlds in sorted(by_weight.items())
    ]


def _diversity(by_seed: BySeed, known: Mapping[int, Known]) -> float | None:
    """Mean over seeds, None where no session shows two items."""
    found = [beyond(sessions, known[seed]).get("diversity") for seed, sessions in by_seed.items()]
    told = [value for value in found if value is not None]
    return float(np.mean(told)) if told else None
