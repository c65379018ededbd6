"""What happened at one step of all users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audience.envs.infos import Info, masked
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Response


@dataclass(frozen=True)
class Step:
    """The slates shown, the responses, and what follows from them, one row a slot.

    Attributes:
        slates: Catalogue indices shown, shape (slots, slate size), int64.
        response: What the users did.
        parts: Named parts of the reward, each of shape (slots,).
        reward: Their sum, shape (slots,), float64.
        terminated: Whose user left, shape (slots,).
        truncated: Whose session was cut off, shape (slots,).
        episode_parts: The parts summed over each slot's episode so far, likewise.
    """

    slates: NDArray[np.int64]
    response: Response
    parts: dict[str, NDArray[np.float64]]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    episode_parts: dict[str, NDArray[np.float64]]

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which sessions ended with this step, shape (slots,)."""
        return self.terminated | self.truncated

    def told(self, scale: FeedbackScale, present: NDArray[np.bool_]) -> Info:
        """What the info tells of it, as `RecommendVectorEnv` specifies, for the slots present."""
        response, values = self.response, np.array(scale.values)
        chosen = response.choice >= 0
        info = masked(
            {
                "choice": response.choice.copy(),
                "item": response.item.copy(),
                "level": response.level.copy(),
                "feedback": np.where(chosen, values[response.level], np.nan),
                "dwell_seconds": response.dwell_seconds.astype(np.float64),
                "accept_probability": response.accept_probability.astype(np.float64),
                "disagreement": response.disagreement.astype(np.float64),
                "leave": response.leave.copy(),
                "reward_parts": {name: part.copy() for name, part in self.parts.items()},
            },
            present,
        )
        info["_feedback"] &= chosen
        info["_dwell_seconds"] &= ~np.isnan(response.dwell_seconds)
        over = self.finished & present
        if over.any():
            sums = {name: part.copy() for name, part in self.episode_parts.items()}
            info |= masked({"episode_parts": sums}, over)
        return info
