"""Whether a simulator and the truth agree on the values of policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from audience.agents.evaluation import bootstrap_interval

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """A policy's value in one world.

    Attributes:
        value: Mean over users.
        low: Lower end of its 95 % bootstrap interval over users.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, by_user: F64) -> Value:
        """From each user's mean return or feedback, shape (users,)."""
        return cls(float(by_user.mean()), *bootstrap_interval(by_user))


Worlds = Mapping[str, Value]
"""The values of one policy: in the `simulator` and in `truth`."""


def agreement(policies: Mapping[str, Worlds]) -> dict[str, Any]:
    """The figures of `fidelity.json` beside the values; None where undefined.

    Returns:
        `kendall`: tau-b, where two policies tie in a world if their intervals overlap there.
        `spearman`: Rank correlation of the values.
        `mean_absolute_value_error`: Mean distance of the two values, as a share of the mean
            absolute true value.
        `regret`: True value of the truly best policy minus that of the simulator's favourite.
        `favourite_value_error`: Value that the simulator promises for its favourite minus that
            policy's true value, as a share of the latter's absolute value.
        `mean_absolute_value_difference`, `favourite_value_difference`: The two errors in the
            values' own unit.
        `favourite`, `best`: Names of the simulator's favourite and of the truly best policy.
    """
    names = list(policies)
    simulated, true = (
        [policies[name][world] for name in names] for world in ("simulator", "truth")
    )
    ours = np.array([value.value for value in simulated])
    theirs = np.array([value.value for value in true])
    favourite, best = int(ours.argmax()), int(theirs.argmax())
    gaps = np.abs(ours - theirs)
    promised = float(ours[favourite] - theirs[favourite])
    varied = len(names) > 1 and np.ptp(ours) > 0 and np.ptp(theirs) > 0
    return {
        "kendall": tau_b(_order(simulated), _order(true)),
        "spearman": float(spearmanr(ours, theirs).statistic) if varied else None,
        "mean_absolute_value_error": _share(float(gaps.mean()), float(np.abs(theirs).mean())),
        "mean_absolute_value_difference": float(gaps.mean()),
        "regret": float(theirs[best] - theirs[favourite]),
        "favourite_value_error": _share(promised, abs(float(theirs[favourite]))),
        "favourite_value_difference": promised,
        "favourite": names[favourite],
        "best": names[best],
    }


def tau_b(first: NDArray[np.int64], second: NDArray[np.int64]) -> float | None:
    """Kendall's tau-b of two orders, None where one of them ties all (Kendall 1945).

    Args:
        first: Sign of each difference, antisymmetric, 0 for a tie, shape (n, n).
        second: Likewise.
    """
    untied = np.sqrt(float((first != 0).sum()) * float((second != 0).sum()))
    return float((first * second).sum() / untied) if untied > 0 else None


def _order(values: list[Value]) -> NDArray[np.int64]:
    """Whose interval lies above whose: 1, -1, or 0 where they overlap, shape (n, n)."""
    low = np.array([value.low for value in values])
    high = np.array([value.high for value in values])
    above = low[:, None] > high[None, :]
    return above.astype(np.int64) - above.T


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
