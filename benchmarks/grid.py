"""What the log cannot teach, set otherwise: the assumptions that a verdict is repeated over."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Literal

from audience.reward_models.users import Assumptions

ACCEPTANCE = (0.2, 0.4, 0.6)
LEAVE = {"low": 0.5, "default": 1.0, "high": 2.0}
"""What both chances of leaving are multiplied by."""

POPULARITY_DISCOUNT = (0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of the grid.

    Attributes:
        told: As a row of `assumption_grid` says it.
        assumptions: What the judges are opened with.
    """

    told: dict[str, Any]
    assumptions: Assumptions


def settings_of(own: Assumptions, how: Literal["each", "product"]) -> list[Setting]:
    """The settings of the grid.

    Args:
        own: Of the comparison.
        how: "each": the own ones, and each of the others alone changed from them; "product": all
            combinations.
    """
    stated = own.stated
    base = (stated.acceptance, "default", stated.popularity_discount)
    axes = (ACCEPTANCE, tuple(LEAVE), POPULARITY_DISCOUNT)
    if how == "product":
        cells = list(itertools.product(*axes))
    else:
        changed = [
            (*base[:axis], value, *base[axis + 1 :])
            for axis, values in enumerate(axes)
            for value in values
        ]
        cells = list(dict.fromkeys([base, *changed]))  # type: ignore[list-item]
    return [_setting(own, *cell) for cell in cells]


def _setting(own: Assumptions, acceptance: float, leave: str, discount: float) -> Setting:
    factor, stated = LEAVE[leave], own.stated
    return Setting(
        {"acceptance": acceptance, "leave": leave, "popularity_discount": discount},
        Assumptions(
            acceptance=acceptance,
            popularity_discount=discount,
            leave_after_choice=min(1.0, factor * stated.leave_after_choice),
            leave_after_skip=min(1.0, factor * stated.leave_after_skip),
        ),
    )
