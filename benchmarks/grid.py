"""What the log cannot teach, set otherwise: the assumptions that a verdict is repeated over."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Literal

from audience.reward_models.users import Assumptions

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog

ACCEPTANCE = (0.2, 0.4, 0.6)
LEAVE = {"low": 0.5, "default": 1.0, "high": 2.0}
"""What both chances of leaving are multiplied by."""

POPULARITY_DISCOUNT = (0.0, 0.5, 1.0)

AS_LEARNED = "learned"
"""What a row says of an assumption that need not be made."""

HAZARDS = ("leave_after_choice", "leave_after_skip")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of the grid.

    Attributes:
        told: As a row of `assumption_grid` says it.
        assumptions: What the judges are opened with.
    """

    told: dict[str, Any]
    assumptions: Assumptions


def taught_by(log: InteractionLog) -> frozenset[str]:
    """Names of the assumptions that judges fitted to this log do without."""
    taught = {"acceptance", "popularity_discount"} if log.has_impressions else set()
    if log.has_sessions:
        taught |= {"leave_after_choice"}
        taught |= {"leave_after_skip"} if log.has_impressions else set()
    return frozenset(taught)


def settings_of(
    own: Assumptions,
    how: Literal["each", "product"],
    taught: frozenset[str] = frozenset(),
) -> list[Setting]:
    """The settings of the grid.

    Args:
        own: Of the comparison.
        how: "each": the own ones, and each of the others alone changed from them; "product": all
            combinations.
        taught: Names of assumptions that the log makes needless: where they were not set by hand
            they stay as learned. If all do, one setting is left.
    """
    stated = own.stated
    learned = {name for name in taught if getattr(own, name) is None}
    learned |= taught & {"popularity_discount"}  # no part of what is learned from impressions
    base: list[Any] = [stated.acceptance, "default", stated.popularity_discount]
    axes: list[tuple[Any, ...]] = [ACCEPTANCE, tuple(LEAVE), POPULARITY_DISCOUNT]
    for axis, names in enumerate((("acceptance",), HAZARDS, ("popularity_discount",))):
        if learned.issuperset(names):
            base[axis], axes[axis] = AS_LEARNED, (AS_LEARNED,)
    if how == "product":
        cells = list(itertools.product(*axes))
    else:
        changed = [
            (*base[:axis], value, *base[axis + 1 :])
            for axis, values in enumerate(axes)
            for value in values
        ]
        cells = list(dict.fromkeys([tuple(base), *changed]))
    return [_setting(own, learned, *cell) for cell in cells]


def _setting(
    own: Assumptions, learned: set[str], acceptance: Any, leave: str, discount: Any
) -> Setting:
    factor = LEAVE.get(leave, 1.0)
    stated = vars(own.stated)
    hazards = {
        name: None if name in learned else min(1.0, factor * stated[name]) for name in HAZARDS
    }
    return Setting(
        {"acceptance": acceptance, "leave": leave, "popularity_discount": discount},
        Assumptions(
            acceptance=None if acceptance == AS_LEARNED else acceptance,
            popularity_discount=0.0 if discount == AS_LEARNED else discount,
            **hazards,
        ),
    )
