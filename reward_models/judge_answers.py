"""What judges learn of the answers to slates: how often one is accepted, and left after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.metrics import F64
from audience.reward_models.outside import outside_utility
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_slates import share
from audience.reward_models.signals import taken
from audience.reward_models.users import Assumptions

LEARNED = {
    "outside": "acceptance",
    "leave_after_choice": "leave_after_choice",
    "leave_after_skip": "leave_after_skip",
}
"""The assumption in whose place each number stands."""

MOST_SLATES = 2_048
"""Slates over which the real acceptance is met."""


@dataclass(frozen=True)
class Answers:
    """Numbers that stand in the place of assumptions; nan where the log does not teach one.

    Attributes:
        outside: Utility of choosing nothing.
        leave_after_choice: Probability of leaving after something was chosen.
        leave_after_skip: The same after nothing was.
    """

    outside: float = np.nan
    leave_after_choice: float = np.nan
    leave_after_skip: float = np.nan

    @classmethod
    def fit(cls, data: QualityData, worth: Callable[[Histories, Slates], F64]) -> Self:
        """Learn them where the log teaches them.

        Args:
            data: Users; of test users nothing is looked at.
            worth: Summed choice weight exp(utility) of slates shown to users of these histories,
                shape (slates,).
        """
        if data.signals is None:
            return cls()
        found, fitting = {}, data.signals["fitting"]
        slates, left = fitting.slates, fitting.ends
        chose = np.ones(0 if left is None else len(left), np.bool_)
        if slates is not None and len(slates):
            left, chose = slates.ends, slates.chosen >= 0
            # By users whom the choice does not know by heart, if they were shown anything.
            asked, shown = data.fitting, slates
            unseen = data.signals["validation"].slates
            if unseen is not None and len(unseen):
                asked, shown = data.validation, unseen
            some = _some(shown, data.seed)
            weights = worth(asked, some)
            found["outside"] = outside_utility(weights, share(some.chosen >= 0))
        if left is not None:
            for name, of in (("choice", chose), ("skip", ~chose)):
                if of.any():
                    found[f"leave_after_{name}"] = share(left[of])
        return cls(**found)

    @property
    def learned(self) -> frozenset[str]:
        """Names of the assumptions that need not be made."""
        return frozenset(of for name, of in LEARNED.items() if np.isfinite(getattr(self, name)))

    def leaving(self, assumptions: Assumptions) -> tuple[float, float]:
        """Probabilities of leaving after a choice and after a skip: given, learned, or stated."""
        found = []
        for name in ("leave_after_choice", "leave_after_skip"):
            given, own = getattr(assumptions, name), getattr(self, name)
            use_own = given is None and np.isfinite(own)
            found.append(float(own if use_own else getattr(assumptions.stated, name)))
        return found[0], found[1]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` takes."""
        return {one.name: np.array([getattr(self, one.name)]) for one in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """The answers of these arrays.

        Raises:
            TypeError: One is missing, or one too many.
        """
        return cls(**{name: array.item() for name, array in arrays.items()})


def _some(slates: Slates, seed: int) -> Slates:
    """At most MOST_SLATES of them."""
    some = np.random.default_rng(seed).permutation(len(slates))[:MOST_SLATES]
    return taken(slates, np.sort(some))
