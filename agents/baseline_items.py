"""Scores that are sums over a session's events of item-to-item weights."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from audience.agents.baseline_events import F32, F64, I64, event_matrix, liking, prior_of
from audience.agents.tuning import TunedAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.choice_baselines import ItemScorer
from audience.reward_models.collaborative import (
    FORGETTING,
    LINEAR_ITEMS,
    follower_matrix,
    only_items,
)
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

EMPHASES = (0.0, 1.0, 2.5)
"""Tried for `emphasis`. On a scale from 0 to 1 with the mean at .6, an event of the lowest level
weighs 1, .4 and -.5, and one of the highest 1, 1.4 and 2."""


class ItemSumAgent(TunedAgent):
    """Score of an item: the sum over the session's events of (its weight) x (item to item).

    An event weighs 1 + emphasis x liking of its level: with emphasis, what was liked counts more
    than what was not, which may speak against an item. Items beyond the head score 0; ties go
    to the more popular item.

    Args:
        weights: Item to item, row: of the event, column: of the item scored, shape (head, head).
        head: Catalogue index of each row and column, shape (head,).
        prior: Score of each item without events, shape (items,).
        liking: Of each level, 0 on average, shape (levels,).
        emphasis: Of the feedback; 0 counts every event alike.
        slate_size: Items at a step.
    """

    SCORING: ClassVar[frozenset[str]] = frozenset({"emphasis"})

    def __init__(
        self,
        weights: F32,
        head: I64,
        prior: F32,
        liking: F64,
        emphasis: float = 0.0,
        slate_size: int = 1,
    ) -> None:
        super().__init__(len(prior), slate_size)
        # By rows: the product with sparse events would turn a matrix by columns at every call.
        self.weights, self.head, self.prior = np.ascontiguousarray(weights), head, prior
        self.liking, self.emphasis = liking, emphasis

    def event_weights(self, levels: I64, lengths: I64) -> F64:
        """Weight of each event, shape (n, history)."""
        del lengths
        return 1.0 + self.emphasis * self.liking[levels]

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Sums of rows of weights, shape (n, items)."""
        events = event_matrix(items, lengths, self.event_weights(levels, lengths), self.n_items)
        if len(self.head) == self.n_items:
            return np.asarray(events @ self.weights + self.prior)
        scores = np.tile(self.prior, (len(items), 1))
        scores[:, self.head] += events[:, self.head] @ self.weights
        return scores


class EASEAgent(ItemSumAgent):
    """EASE (Steck, WWW 2019) over the most frequent items; see `ItemSumAgent`."""

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "l2": (50.0, 150.0, 500.0),
        "emphasis": EMPHASES,
    }
    """The penalty: the 200…1,000 of the paper's data sets, and lower, for smaller logs. NDCG@10 on
    MovieLens: with 468 fitting users .481, .496, .497 at 100, 300 and 1,000, lower at 30 and 3,000;
    with 228 the best is at 60…100."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        l2: float = 300.0,
        emphasis: float = 0.0,
    ) -> EASEAgent:
        """Closed form; `l2` is the ridge penalty, in squared events."""
        scorer = ItemScorer.ease(histories, share_of_events(histories, catalogue), l2)
        known = prior_of(histories, catalogue), liking(histories, scale)
        return cls(scorer.weights, scorer.head, *known, emphasis, slate_size)


class ItemKNNAgent(ItemSumAgent):
    """Item neighbours by shrunk cosine (Deshpande & Karypis, TOIS 2004); see `ItemSumAgent`."""

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "shrinkage": (0.0, 10.0, 50.0),
        "neighbours": (100, 400),
        "emphasis": (0.0, 1.5),
    }

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        shrinkage: float = 10.0,
        neighbours: int = 400,
        emphasis: float = 0.0,
    ) -> ItemKNNAgent:
        """Closed form; see `choice_baselines.ItemScorer.item_knn` for `shrinkage` (in events)."""
        share = share_of_events(histories, catalogue)
        scorer = ItemScorer.item_knn(histories, share, shrinkage, neighbours)
        known = prior_of(histories, catalogue), liking(histories, scale)
        return cls(scorer.weights, scorer.head, *known, emphasis, slate_size)


class FollowersAgent(ItemSumAgent):
    """What follows what: sequential rules (Ludewig & Jannach, UMUAI 2018), weighted by recency.

    A Markov-like model: it stands in for neural sequential models, of which the user model's
    choice head is one (`ChoiceAgent`). An event weighs `forgetting` times the one after it.

    Args:
        weights: See `ItemSumAgent`.
        head: See `ItemSumAgent`.
        prior: See `ItemSumAgent`.
        liking: See `ItemSumAgent`.
        emphasis: See `ItemSumAgent`.
        forgetting: In 0…1.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "forgetting": (FORGETTING, 0.95, 1.0),
        "emphasis": EMPHASES,
    }
    SCORING: ClassVar[frozenset[str]] = frozenset({"emphasis", "forgetting"})

    def __init__(
        self,
        weights: F32,
        head: I64,
        prior: F32,
        liking: F64,
        emphasis: float = 0.0,
        slate_size: int = 1,
        forgetting: float = FORGETTING,
    ) -> None:
        super().__init__(weights, head, prior, liking, emphasis, slate_size)
        self.forgetting = forgetting

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        forgetting: float = FORGETTING,
        emphasis: float = 0.0,
    ) -> FollowersAgent:
        """Count who follows whom; see `collaborative.follower_matrix`."""
        head = most_frequent(histories, catalogue)
        weights = follower_matrix(only_items(histories, head, len(catalogue)), len(head))
        known = prior_of(histories, catalogue), liking(histories, scale)
        return cls(weights, head, *known, emphasis, slate_size, forgetting)

    def event_weights(self, levels: I64, lengths: I64) -> F64:
        """Weight of each event, shape (n, history)."""
        age = np.maximum(lengths[:, None] - 1 - np.arange(levels.shape[1]), 0)
        return super().event_weights(levels, lengths) * self.forgetting**age


def share_of_events(histories: Histories, catalogue: Catalogue) -> F64:
    """Share of each item among the events, shape (items,)."""
    counts = np.bincount(histories.items, minlength=len(catalogue))
    return np.asarray(counts / max(len(histories.items), 1), np.float64)


def most_frequent(histories: Histories, catalogue: Catalogue) -> I64:
    """Indices of the LINEAR_ITEMS items with the most events, ascending."""
    share = share_of_events(histories, catalogue)
    return np.sort(np.argsort(-share, kind="stable")[:LINEAR_ITEMS])
