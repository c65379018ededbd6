"""Who to beat: random, popularity, mean feedback, and all other baselines by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent
from audience.agents.baseline_bandits import LinUCBAgent, ThompsonAgent
from audience.agents.baseline_factors import ALSAgent, BPRAgent, ExplicitALSAgent
from audience.agents.baseline_items import EASEAgent, FollowersAgent, ItemKNNAgent
from audience.agents.baseline_neighbours import TextKNNAgent, UserKNNAgent
from audience.agents.baseline_products import EASEFeedbackAgent
from audience.agents.greedy import ChoiceAgent, GreedyAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

__all__ = [
    "BASELINES",
    "ALSAgent",
    "BPRAgent",
    "ChoiceAgent",
    "ConstantAgent",
    "EASEAgent",
    "EASEFeedbackAgent",
    "ExplicitALSAgent",
    "FollowersAgent",
    "GreedyAgent",
    "ItemKNNAgent",
    "LinUCBAgent",
    "MeanFeedbackAgent",
    "PopularityAgent",
    "RandomAgent",
    "TextKNNAgent",
    "ThompsonAgent",
    "UserKNNAgent",
]


class RandomAgent(ScoringAgent):
    """Unconsumed items at random, from a Generator of its own; `deterministic` changes nothing.

    Args:
        n_items: Size of the catalogue.
        slate_size: Items at a step.
        seed: The same seed and the same calls give the same slates.
    """

    def __init__(self, n_items: int, slate_size: int = 1, seed: int = 0) -> None:
        super().__init__(n_items, slate_size)
        self.seed = seed
        self._rng = np.random.default_rng(seed)

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        seed: int = 0,
    ) -> RandomAgent:
        """Only the size of the catalogue counts."""
        del histories, scale
        return cls(len(catalogue), slate_size, seed)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Uniform draws, shape (n, items)."""
        return self._rng.random((len(items), self.n_items), np.float32)


class ConstantAgent(ScoringAgent):
    """The same ranking for every user.

    Args:
        item_scores: Shape (items,).
        slate_size: Items at a step.
    """

    def __init__(self, item_scores: NDArray[np.floating[Any]], slate_size: int = 1) -> None:
        super().__init__(len(item_scores), slate_size)
        self.item_scores = np.asarray(item_scores, np.float64)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """The items' scores, once a user, shape (n, items)."""
        return np.broadcast_to(self.item_scores, (len(items), self.n_items))


class PopularityAgent(ConstantAgent):
    """The items with the most events among the fitting users."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
    ) -> PopularityAgent:
        """Count the events of these histories."""
        del scale
        counts = np.bincount(histories.items, minlength=len(catalogue))
        return cls(counts.astype(np.float64), slate_size)


class MeanFeedbackAgent(ConstantAgent):
    """The items with the highest mean feedback, which the catalogue shrinks for rare items."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
    ) -> MeanFeedbackAgent:
        """Take the catalogue's means."""
        del histories, scale
        return cls(catalogue.mean_feedback, slate_size)


BASELINES: dict[str, type[ScoringAgent]] = {
    "random": RandomAgent,
    "popularity": PopularityAgent,
    "mean_feedback": MeanFeedbackAgent,
    "item_knn": ItemKNNAgent,
    "user_knn": UserKNNAgent,
    "text_knn": TextKNNAgent,
    "explicit_als": ExplicitALSAgent,
    "als": ALSAgent,
    "bpr": BPRAgent,
    "ease": EASEAgent,
    "ease_feedback": EASEFeedbackAgent,
    "followers": FollowersAgent,
    "linucb": LinUCBAgent,
    "thompson": ThompsonAgent,
    "choice": ChoiceAgent,
    "greedy": GreedyAgent,
}
"""Every baseline by the name it has in comparisons and in saved directories."""
