"""Rewards: small objects that turn a response into named numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Response


class Reward(Protocol):
    """What an agent is paid for a response; the reward is the sum of the parts."""

    def __call__(self, response: Response, scale: FeedbackScale) -> dict[str, NDArray[np.float64]]:
        """Named parts of the reward, each of shape (slots,).

        Args:
            response: What the users did, one row a slot.
            scale: The levels that `response.level` indexes.
        """
        ...


@dataclass(frozen=True)
class FeedbackReward:
    """Feedback on the chosen item, scaled to 0…1 (0 the lowest level); 0 if none is chosen."""

    def __call__(self, response: Response, scale: FeedbackScale) -> dict[str, NDArray[np.float64]]:
        """The one part `feedback`, shape (slots,)."""
        return {"feedback": np.where(response.choice >= 0, scale.scaled[response.level], 0.0)}
