"""What judges learn of the answers to slates: five numbers, the same for all users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.metrics import F64
from audience.reward_models.outside import outside_utility
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_slates import share
from audience.reward_models.signals import taken
from audience.reward_models.users import Assumptions

LEARNED = {
    "outside": ("acceptance", "popularity_discount"),
    "leave_after_choice": ("leave_after_choice",),
    "leave_after_skip": ("leave_after_skip",),
}
"""The assumptions in whose place each number stands."""

MOST_SLATES = 4_096
"""Slates that are learned from."""

LEAST_TASTE = 0.05
"""Users of no taste at all would choose what they have consumed."""


@dataclass(frozen=True)
class Answers:
    """Numbers that stand in the place of assumptions; nan where the log does not teach one.

    Attributes:
        taste: How much an item's log-probability to come next counts when it is shown.
        popularity: How much its log-popularity counts beside: below 0 where popular items were
            met because they were shown.
        outside: Utility of choosing nothing.
        leave_after_choice: Probability of leaving after something was chosen.
        leave_after_skip: The same after nothing was.
    """

    taste: float = np.nan
    popularity: float = np.nan
    outside: float = np.nan
    leave_after_choice: float = np.nan
    leave_after_skip: float = np.nan

    @classmethod
    def fit(cls, data: QualityData, utilities: Callable[[Histories, Slates], F64]) -> Self:
        """Learn them where the log teaches them.

        Args:
            data: Users; of test users nothing is looked at.
            utilities: Log-probability to come next of each item of slates shown to users of these
                histories, shape (shown,).
        """
        if data.signals is None:
            return cls()
        found: dict[str, float] = {}
        fitting = data.signals["fitting"]
        slates, left = fitting.slates, fitting.ends
        chose = np.ones(0 if left is None else len(left), np.bool_)
        if slates is not None and len(slates):
            left, chose = slates.ends, slates.chosen >= 0
            # Of users whom the choice does not know by heart, if they were shown anything.
            asked, shown = data.fitting, slates
            unseen = data.signals["validation"].slates
            if unseen is not None and len(unseen):
                asked, shown = data.validation, unseen
            some = np.random.default_rng(data.seed).permutation(len(shown))[:MOST_SLATES]
            shown = taken(shown, np.sort(some))
            log_popularity = np.log(data.catalogue.popularity[shown.items])
            found |= _of_slates(utilities(asked, shown), log_popularity, shown)
        if left is not None:
            for name, of in (("choice", chose), ("skip", ~chose)):
                if of.any():
                    found[f"leave_after_{name}"] = share(left[of])
        return cls(**found)

    def appeals(self, utilities: F64, log_popularity: F64) -> F64:
        """Utilities of items that are shown: as they come next, where nothing else was learned."""
        if not np.isfinite(self.outside):
            return utilities
        return self.taste * utilities + self.popularity * log_popularity

    def shares(self, utilities: F64, log_popularity: F64, slates: Slates) -> tuple[F64, F64]:
        """P(chosen) of each item shown, shape (shown,), and P(nothing) of each slate."""
        weights = np.exp(self.appeals(utilities, log_popularity))
        nothing = np.exp(self.outside)
        whole = np.bincount(slates.row, weights, len(slates)) + nothing
        return weights / whole[slates.row], nothing / whole

    @property
    def learned(self) -> frozenset[str]:
        """Names of the assumptions that need not be made."""
        known = [of for name, of in LEARNED.items() if np.isfinite(getattr(self, name))]
        return frozenset(name for of in known for name in of)

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


def _of_slates(utilities: F64, log_popularity: F64, slates: Slates) -> dict[str, float]:
    """The conditional logit of choosing an item shown, or nothing, by maximal likelihood.

    Args:
        utilities: Of each item shown, -inf where it cannot be chosen, shape (shown,).
        log_popularity: Likewise.
        slates: What was chosen of them.
    """
    open_, row, count = np.isfinite(utilities), slates.row, len(slates)
    chose = slates.chosen >= 0
    chosen = slates.offsets[:-1][chose] + slates.chosen[chose]
    x = np.stack([np.where(open_, utilities, 0.0), log_popularity], 1)

    def surprise(weights: F64) -> tuple[float, F64]:
        appeal = np.where(open_, x @ weights[:2], -np.inf)
        top = np.full(count, weights[2])
        np.maximum.at(top, row, appeal)
        weight, nothing = np.exp(appeal - top[row]), np.exp(weights[2] - top)
        whole = np.bincount(row, weight, count) + nothing
        of_chosen = appeal[chosen].sum() + weights[2] * (~chose).sum()
        shares = weight / whole[row]
        slope = [*(shares @ x - x[chosen].sum(0)), (nothing / whole).sum() - (~chose).sum()]
        # As if one slate more spoke for taking the next event as it is.
        off = weights - [1.0, 0.0, weights[2]]
        loss = (np.log(whole) + top).sum() - of_chosen + off @ off / 2
        return loss / count, (np.array(slope) + off) / count

    weights = np.bincount(row, np.exp(utilities), count).astype(np.float64)
    start = outside_utility(weights, share(chose))
    bounds = [(LEAST_TASTE, None), (None, None), (None, None)]
    found = minimize(surprise, [1.0, 0.0, start], jac=True, method="L-BFGS-B", bounds=bounds).x
    return dict(zip(("taste", "popularity", "outside"), map(float, found), strict=True))
