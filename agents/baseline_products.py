"""Choice times feedback: what a user would take, weighted by what they would think of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from audience.agents.baseline_events import I64
from audience.agents.baseline_factors import ExplicitALSAgent
from audience.agents.baseline_items import EASEAgent
from audience.agents.tuning import TunedAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale


class EASEFeedbackAgent(TunedAgent):
    """EASE times expected feedback: the reward that a conditional logit on EASE expects.

    P(an item is taken) is proportional to exp(slope x its EASE score) (McFadden 1974), and
    explicit ALS says what feedback it would get; the score is the logarithm of the product.

    Args:
        choice: EASE.
        feedback: Explicit ALS.
        slope: Of the logit.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "l2": (50.0, 150.0, 500.0),
        "slope": (3.0, 10.0, 30.0),
    }
    SCORING: ClassVar[frozenset[str]] = frozenset({"slope"})

    LEAST = 0.02
    """Expected feedback, on the scale 0…1, below which all items count alike."""

    def __init__(
        self,
        choice: EASEAgent,
        feedback: ExplicitALSAgent,
        slope: float = 10.0,
        slate_size: int = 1,
    ) -> None:
        super().__init__(choice.n_items, slate_size)
        self.choice, self.feedback, self.slope = choice, feedback, slope

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        l2: float = 300.0,
        slope: float = 10.0,
    ) -> EASEFeedbackAgent:
        """Fit both; `l2` is EASE's penalty."""
        choice = EASEAgent.fit(histories, catalogue, scale, l2=l2)
        feedback = ExplicitALSAgent.fit(histories, catalogue, scale)
        return cls(choice, feedback, slope, slate_size)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Logarithm of chance times feedback, up to a constant a user, shape (n, items)."""
        chance = self.slope * self.choice.scores(items, levels, lengths).astype(np.float64)
        expected = np.maximum(self.feedback.expected(items, levels, lengths), self.LEAST)
        return np.asarray(chance + np.log(expected))
