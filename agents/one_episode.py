"""Environments for evaluations, in which every user is met once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audience.envs.starts import Wishes
from audience.envs.vector import RecommendVectorEnv


class OneEpisodeEnv(RecommendVectorEnv):
    """Environments that rest when their first episode is over, for the next would not count.

    After the one reset, a slot whose session has ended takes no further part: its actions are
    ignored, and its reward is 0.
    """

    _over: NDArray[np.bool_] | None = None

    def _begin(self, which: NDArray[np.bool_], wishes: Wishes | None = None) -> None:
        if self._over is None:  # at the reset
            super()._begin(which, wishes)
            self._over = np.zeros(self.num_envs, np.bool_)
        else:
            self._over |= which

    def _resting(self) -> NDArray[np.bool_]:
        finished = super()._resting()
        return finished if self._over is None else finished | self._over
