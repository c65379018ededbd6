"""Collaborative filters that the user model's choice head is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.collaborative import (
    LINEAR_ITEMS,
    ease_matrix,
    interaction_matrix,
    only_items,
)
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import CELLS, F64

F32 = NDArray[np.float32]

EASE_L2 = (50.0, 100.0, 200.0, 400.0, 800.0)
POPULARITY = 1e-6
"""Weight of an item's share of events beside the other scores: it only breaks ties."""


@dataclass(frozen=True)
class ItemScorer:
    """Scores of all items: the sum of one row of weights for each event, and a prior.

    Attributes:
        weights: Shape (head, head), zero diagonal.
        head: Catalogue index of each row and column of `weights`, shape (head,).
        prior: Score of each item without events, shape (items,).
        l2: Ridge penalty of `weights`, in squared events.
    """

    weights: F32
    head: NDArray[np.int64]
    prior: F64
    l2: float = 0.0

    @classmethod
    def popularity(cls, popularity: F64) -> ItemScorer:
        """By the share of the fitting users' events, shape (items,)."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), popularity)

    @classmethod
    def ease(cls, fitting: Histories, popularity: F64, l2: float) -> ItemScorer:
        """EASE over the LINEAR_ITEMS most frequent items."""
        head = np.sort(np.argsort(-popularity, kind="stable")[:LINEAR_ITEMS])
        part = only_items(fitting, head, len(popularity))
        return cls(ease_matrix(part, len(head), l2), head, POPULARITY * popularity, l2)

    def rank_items(self, contexts: Histories) -> F32:
        """Scores given whole histories, consumed items -inf, shape (users, items)."""
        events = interaction_matrix(contexts, len(self.prior))
        scores = np.tile(self.prior.astype(np.float32), (len(contexts), 1))
        scores[:, self.head] += events[:, self.head] @ self.weights
        scores[events.nonzero()] = -np.inf
        return scores

    def next_ranks(self, histories: Histories) -> F64:
        """Rank of each event's item among those not consumed before it, shape (events,).

        0 is best; items of the same score share their mean rank. No item twice for a user.
        """
        place = np.full(len(self.prior), -1)
        place[self.head] = np.arange(len(self.head))
        ranks = np.empty(len(histories.items))
        step = max(1, CELLS // len(self.prior))
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            items = histories.items[start:end]
            met = np.full(len(self.prior), len(items))  # when each item is met
            met[items] = np.arange(len(items))
            earlier = np.zeros(len(self.head), np.float32)
            for at in range(0, len(items), step):  # a user's events, as many as fit in memory
                part = items[at : at + step]
                known = place[part] >= 0
                each = np.zeros((1 + len(part), len(self.head)), np.float32)
                each[0] = earlier
                each[1:][known] = self.weights[place[part[known]]]
                each.cumsum(0, out=each)
                scores = np.tile(self.prior.astype(np.float32), (len(part), 1))
                scores[:, self.head] += each[:-1]
                earlier = each[-1]
                scores[met < np.arange(at, at + len(part))[:, None]] = -np.inf
                own = np.take_along_axis(scores, part[:, None], 1)
                above, same = (scores > own).sum(1), (scores == own).sum(1)
                ranks[start + at : start + at + len(part)] = above + (same - 1) / 2
        return ranks
